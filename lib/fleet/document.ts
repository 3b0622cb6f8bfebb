import { closest, distance } from 'fastest-levenshtein'
import { LineCounter, parseDocument as parseYaml } from 'yaml'
import { type core, z } from 'zod'

/** What is wrong with one place of a document. */
export interface Fault {
  /** Dotted path of the field, "" for the document itself. */
  readonly path: string
  /** 1-based line of the text, where it can be told. */
  readonly line: number | null
  readonly message: string
  readonly hint?: string
}

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly faults: readonly Fault[] }

/** Largest document accepted: etcd refuses 1.5 MiB, and no honest document comes near this. */
const maxDocumentBytes = 256 * 1024
const maxNesting = 100

/**
 * Reads one operator's document: YAML 1.2 core, of which JSON is a subset, checked against `schema`.
 * Never throws: every fault comes back with its path, line and, where a name is misspelt, a hint.
 */
export function readDocument<S extends z.ZodType>(text: string, schema: S): Parsed<z.output<S>> {
  const bytes = Buffer.byteLength(text)
  if (bytes > maxDocumentBytes) return failure(`is ${bytes} bytes long; the limit is ${maxDocumentBytes}`)
  if (nesting(text) > maxNesting) return failure(`is nested deeper than ${maxNesting}`)
  const lines = new LineCounter()
  const document = parseYaml(text, {
    lineCounter: lines,
    version: '1.2',
    schema: 'core',
    uniqueKeys: true,
    logLevel: 'error',
  })
  if (document.errors.length > 0) {
    return {
      ok: false,
      faults: document.errors.map((error) => syntaxFault(error.message, lines.linePos(error.pos[0]).line)),
    }
  }
  const value = contentsOf(() => document.toJS({ maxAliasCount: 100 }))
  if (!value.ok) return value
  if (value.value === null) return failure('is empty')
  const result = schema.safeParse(value.value, inOurWords)
  if (result.success) return { ok: true, value: result.data }
  const lineOf = (path: readonly PropertyKey[]) => {
    const node = document.getIn(path, true) as { range?: [number, number, number] } | undefined
    return node?.range ? lines.linePos(node.range[0]).line : null
  }
  return { ok: false, faults: result.error.issues.flatMap((issue) => faultsOf(issue, schema, lineOf)) }
}

/** zod would say that it received undefined. */
const inOurWords: core.ParseContext<core.$ZodIssue> = {
  error: ({ code, input }) => (code === 'invalid_type' && input === undefined ? 'is required' : undefined),
}

/** Faults of a value that was never text, such as the body of an admin request. */
export function readValue<S extends z.ZodType>(value: unknown, schema: S): Parsed<z.output<S>> {
  const result = schema.safeParse(value, inOurWords)
  if (result.success) return { ok: true, value: result.data }
  return { ok: false, faults: result.error.issues.flatMap((issue) => faultsOf(issue, schema, () => null)) }
}

/** Faults in one sentence: `line 4: routing.attempts must be a number; did you mean ...`. */
export function describeFaults(faults: readonly Fault[]): string {
  return faults
    .map((fault) => {
      const where = [
        fault.line === null ? '' : `line ${fault.line}: `,
        fault.path ? `${fault.path}: ` : '',
      ].join('')
      return `${where}${fault.message}${fault.hint ? ` (${fault.hint})` : ''}`
    })
    .join('; ')
}

/** The known name nearest to a misspelt one, or null when none is near enough to be meant. */
export function didYouMean(name: string, known: readonly string[]): string | null {
  if (known.length === 0) return null
  const nearest = closest(name, [...known])
  return distance(name, nearest) <= Math.max(2, Math.floor(nearest.length / 3)) ? nearest : null
}

function contentsOf(read: () => unknown): Parsed<unknown> {
  try {
    return { ok: true, value: read() }
  } catch {
    return failure('has too many YAML aliases') // the billion-laughs guard of the yaml package
  }
}

/** How deep brackets are open at once, wherever they stand: the parser's time grows with the square of it. */
function nesting(text: string): number {
  let open = 0
  let deepest = 0
  for (const character of text) {
    if (character === '[' || character === '{') deepest = Math.max(deepest, ++open)
    else if (character === ']' || character === '}') open--
  }
  return deepest
}

function failure(message: string): { ok: false; faults: Fault[] } {
  return { ok: false, faults: [{ path: '', line: null, message }] }
}

function syntaxFault(message: string, line: number): Fault {
  return { path: '', line, message: message.split('\n')[0] ?? message }
}

type LineOf = (path: readonly PropertyKey[]) => number | null

function faultsOf(issue: core.$ZodIssue, schema: z.ZodType, lineOf: LineOf): Fault[] {
  const path = issue.path.map(String).join('.')
  if (issue.code !== 'unrecognized_keys') {
    return [{ path, line: lineOf(issue.path), message: issue.message }]
  }
  const known = knownFields(schema, issue.path)
  return issue.keys.map((key) => {
    const meant = didYouMean(key, known)
    return {
      path: path ? `${path}.${key}` : key,
      line: lineOf([...issue.path, key]),
      message: 'is not a known field',
      hint: meant ? `did you mean "${meant}"?` : `known fields: ${known.join(', ')}`,
    }
  })
}

/** The field names a schema knows at `path`. */
function knownFields(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  interface Shape {
    properties?: Record<string, Shape>
    items?: Shape
  }
  let shape: Shape | undefined = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape
  for (const step of path) shape = typeof step === 'number' ? shape?.items : shape?.properties?.[String(step)]
  return Object.keys(shape?.properties ?? {})
}
