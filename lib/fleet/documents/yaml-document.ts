import { Composer, type CST, type Document, isMap, isScalar, isSeq, Lexer, Parser, type YAMLMap } from 'yaml'
import { type Contents, type DocumentFault, limitFaults, lineAt, maxDepth, refusal } from './contents.ts'

/** Lexical tokens, at 2 to 4 µs of CPU each: a field on a line of its own has about eight. */
const maxTokens = 4000
/** A text of many lines is one token, and each of its lines costs as much as a token. The CAs of all the world have 3,600. */
const maxLines = 4000
const maxReferences = 100

/** Reads a YAML document: its contents, or its faults. */
export function readYaml(text: string): Contents | readonly DocumentFault[] {
  const document = parseYaml(text)
  if (!('contents' in document)) return document
  const { errors, warnings } = document
  if (errors.length > 0)
    return limitFaults(errors, ({ message, pos }) => ({
      path: '',
      line: lineAt(text, pos[0]),
      message: plainly(message),
    }))
  // The package drops unknown tags with a warning: "!token value" would mean "value".
  const tags = warnings.filter(({ code }) => code === 'TAG_RESOLVE_FAILED')
  if (tags.length > 0)
    return limitFaults(tags, ({ pos }) => ({ path: '', line: lineAt(text, pos[0]), message: unknownTag }))
  const faulty = faultyKeys(document)
  if (faulty.length > 0)
    return limitFaults(faulty, ({ path, offset, message }) => ({
      path: path.join('.'),
      line: lineAt(text, offset),
      message,
    }))
  const value = contentsOf(document)
  if (value === undefined) return refusal('has an alias without the anchor it names')
  return {
    value,
    lineOf: (path) => {
      const node = document.getIn(path, true) as Located | undefined
      return node?.range ? lineAt(text, node.range[0]) : null
    },
  }
}

/**
 * The document with its errors, or the fault that reading stopped at. These are the steps of the yaml package's
 * `parseDocument`, each with a limit: left alone, 95 KB of distinct keys take it seconds.
 */
export function parseYaml(text: string): Document.Parsed | readonly DocumentFault[] {
  if (lineAt(text, text.length) > maxLines)
    return refusal(`has more than ${maxLines} lines; as JSON it may have more`)
  const { stackTraceLimit } = Error
  // The package makes an Error of each of thousands of faults, and most of its cost is the stack.
  Error.stackTraceLimit = 0
  try {
    return parseWithinLimits(text)
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

function parseWithinLimits(text: string): Document.Parsed | readonly DocumentFault[] {
  const parser = new Parser()
  // Its own check of keys takes quadratic time.
  const composer = new Composer({ version: '1.2', schema: 'core', uniqueKeys: false })
  const limits = new TokenLimits()
  const documents: Document.Parsed[] = []
  for (const lexeme of new Lexer().lex(text)) {
    const reason = limits.exceededBy(lexeme)
    if (reason !== null) return refusal(reason)
    for (const token of parser.next(lexeme)) {
      if (token.type === 'error') return [syntaxFault(text, token)]
      documents.push(...composer.next(token))
    }
    if (parser.stack.length > maxDepth) return refusal(`is nested deeper than ${maxDepth} levels`)
    if (documents.length > 1) break
  }
  for (const token of parser.end()) documents.push(...composer.next(token))
  documents.push(...composer.end(true, text.length))
  const [document, second] = documents
  if (document === undefined) return refusal('is empty')
  return second === undefined ? document : refusal('holds more than one YAML document')
}

function syntaxFault(text: string, { offset, source, message }: CST.ErrorToken): DocumentFault {
  // Longer text may be part of a secret, and faults are shown to others than the writer.
  const quoted = source && /^\W{1,20}$/.test(source) ? `: ${JSON.stringify(source)}` : ''
  return { path: '', line: lineAt(text, offset), message: `${plainly(message)}${quoted}` }
}

/** The package names YAML's grammar where an operator looks for a bracket. */
function plainly(message: string): string {
  const [, end] = /^Flow (?:map|sequence).* must .*end with a ([}\]])$/.exec(message) ?? []
  return end
    ? `has a ${end === '}' ? '{' : '['} without its ${end}, or lines between them that are not indented`
    : message
}

class TokenLimits {
  #tokens = 0
  #references = 0

  exceededBy(lexeme: string): string | null {
    if (++this.#tokens > maxTokens) return `has more than ${maxTokens} YAML tokens; as JSON it may be larger`
    if (/^[*%]/.test(lexeme) && ++this.#references > maxReferences)
      return `has more than ${maxReferences} YAML aliases and directives`
    // The package would make an error of each: one string can hold 30,000.
    return lexeme.startsWith('"') && brokenEscape.test(lexeme) ? 'has a string with an invalid escape' : null
  }
}

const brokenEscape =
  /\\(?:[^0abefnrtvNLP_ /\t"\\xuU\r\n]|x(?![\da-fA-F]{2})|u(?![\da-fA-F]{4})|U(?!00(?:0[\da-fA-F]|10)[\da-fA-F]{4}))/

const unknownTag = 'has a YAML tag that is not known: text that begins with "!" must stand in quotes'

interface Located {
  readonly range?: readonly [number, number, number] | null | undefined
}

interface FaultyKey {
  readonly path: readonly string[]
  readonly offset: number
  readonly message: string
}

function faultyKeys(document: Document.Parsed): FaultyKey[] {
  const faulty: FaultyKey[] = []
  const visit = (node: unknown, path: readonly string[]): void => {
    if (isMap(node)) visitMap(node, path)
    else if (isSeq(node))
      for (const [index, item] of node.items.entries()) visit(item, [...path, String(index)])
  }
  const visitMap = ({ items }: YAMLMap, path: readonly string[]): void => {
    const seen = new Set<string>()
    for (const { key, value } of items) {
      const offset = (key as Located | null)?.range?.[0] ?? 0
      const name = isScalar(key) ? String(key.value) : null
      if (name === null) faulty.push({ path, offset, message: 'has a key that is not plain text' })
      else if (seen.has(name)) faulty.push({ path: [...path, name], offset, message: 'occurs twice' })
      if (name === null) continue
      seen.add(name)
      visit(value, [...path, name])
    }
  }
  visit(document.contents, [])
  return faulty
}

/** Undefined when an alias names nothing. */
function contentsOf(document: Document.Parsed): unknown {
  try {
    // The package would count the values of aliases in quadratic time; the reader of the value counts them too.
    return document.toJS({ maxAliasCount: -1 })
  } catch {
    return undefined
  }
}
