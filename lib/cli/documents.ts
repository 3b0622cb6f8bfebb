import { Document, isScalar, Scalar, visit } from 'yaml'

/** What steers a terminal, or hides the order of what it shows. Line feeds and tabs are layout. */
const steering = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu

/** A document as JSON that is safe on a terminal: what would steer that is escaped, and means the same. */
export function jsonText(document: unknown, indent?: number): string {
  return JSON.stringify(document, null, indent).replace(steering, (character) =>
    Array.from({ length: character.length }, (_, at) => `\\u${hex(character.charCodeAt(at), 4)}`).join(''),
  )
}

/** The same as YAML. Only scalars in double quotes can hold escapes. */
export function yamlText(document: unknown): string {
  const yaml = new Document(document)
  visit(yaml, {
    Scalar: (_, scalar) => quote(scalar),
    Pair: (_, { key }) => quote(key),
  })
  return String(yaml).replace(steering, (character) => `\\U${hex(character.codePointAt(0) ?? 0, 8)}`)
}

function quote(scalar: unknown): void {
  if (isScalar(scalar) && typeof scalar.value === 'string' && scalar.value.search(steering) >= 0)
    scalar.type = Scalar.QUOTE_DOUBLE
}

function hex(code: number, digits: number): string {
  return code.toString(16).padStart(digits, '0')
}
