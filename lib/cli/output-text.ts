import { createRequire } from 'node:module'
import { controlCharacters, escapeInJson } from '../shared/control-characters.ts'

/** A document as JSON that is safe on a terminal: control characters are escaped, which keeps the meaning. */
export function jsonText(document: unknown, indent?: number): string {
  return escapeInJson(JSON.stringify(document, null, indent))
}

const require = createRequire(import.meta.url)

/** The same as YAML. Only scalars in double quotes can contain escapes. */
export function yamlText(document: unknown): string {
  // Loaded on the first call: the package is more code than all the rest of a command, and a table needs none of it.
  const { Document, isScalar, Scalar, visit } = require('yaml') as typeof import('yaml')
  const quote = (scalar: unknown) => {
    if (isScalar(scalar) && typeof scalar.value === 'string' && scalar.value.search(controlCharacters) >= 0)
      scalar.type = Scalar.QUOTE_DOUBLE
  }
  const yaml = new Document(document)
  visit(yaml, {
    Scalar: (_, scalar) => quote(scalar),
    Pair: (_, { key }) => quote(key),
  })
  return String(yaml).replace(controlCharacters, escapeOf)
}

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return `\\U${code.toString(16).padStart(8, '0')}`
}
