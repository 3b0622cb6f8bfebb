import { type core, z } from 'zod'
import { didYouMean } from '../../shared/did-you-mean.ts'
import { type Contents, type DocumentFault, limitFaults } from './contents.ts'
import { readText } from './document-text.ts'
import { inOurWords, issueText, type Shape } from './issue-text.ts'

export type Parsed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly faults: readonly DocumentFault[] }

/**
 * Reads one operator's document against `schema`. Never throws: every fault comes back with its path, line and, where a
 * name is misspelt, a hint. See `readText` for what it takes.
 */
export function readDocument<S extends z.ZodType>(text: string, schema: S): Parsed<z.output<S>> {
  const contents = readText(text)
  if (!('value' in contents)) return { ok: false, faults: contents }
  return check(contents, schema)
}

/** Faults of a value that was never text, such as the body of an admin request. */
export function readValue<S extends z.ZodType>(value: unknown, schema: S): Parsed<z.output<S>> {
  return check({ value, lineOf: () => null }, schema)
}

function check<S extends z.ZodType>({ value, lineOf }: Contents, schema: S): Parsed<z.output<S>> {
  const result = schema.safeParse(value, inOurWords)
  if (result.success) return { ok: true, value: result.data }
  const found = result.error.issues.flatMap((issue) => faultsIn(issue, schema))
  return { ok: false, faults: limitFaults(found, (tell) => tell(lineOf)) }
}

type Tell = (lineOf: Contents['lineOf']) => DocumentFault

/** The faults of an issue, made only when they are reported: an issue may name thousands of fields. */
function faultsIn(issue: core.$ZodIssue, schema: z.ZodType): Tell[] {
  const path = issue.path.map(String).join('.')
  if (issue.code !== 'unrecognized_keys')
    return [(lineOf) => ({ path, line: lineOf(issue.path), ...wordsFor(issue, schema) })]
  const fields = () => Object.keys(shapeAt(schema, issue.path)?.properties ?? {})
  return issue.keys.map((key) => (lineOf) => ({
    path: path ? `${path}.${key}` : key,
    line: lineOf([...issue.path, key]),
    message: 'is not a known field',
    hint: hintFor(key, fields()),
  }))
}

function wordsFor(issue: core.$ZodIssue, schema: z.ZodType): Pick<DocumentFault, 'message' | 'hint'> {
  const message = issueText(issue, shapeAt(schema, issue.path))
  const meant =
    issue.code === 'invalid_value' && typeof issue.input === 'string'
      ? didYouMean(issue.input, issue.values.map(String))
      : null
  return { message, ...(meant !== null && { hint: `did you mean "${meant}"?` }) }
}

function hintFor(key: string, known: readonly string[]): string {
  const meant = didYouMean(key, known)
  return meant ? `did you mean "${meant}"?` : `known fields: ${known.join(', ')}`
}

/** The fields of each schema, cached: computing them takes milliseconds. */
const shapes = new WeakMap<z.ZodType, Shape>()

/** The field at `path` as a schema describes it; undefined where it knows none, as in a map with names of any kind. */
function shapeAt(schema: z.ZodType, path: readonly PropertyKey[]): Shape | undefined {
  const root =
    shapes.get(schema) ?? (z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape)
  shapes.set(schema, root)
  let shape: Shape | undefined = root
  for (const step of path) shape = typeof step === 'number' ? shape?.items : shape?.properties?.[String(step)]
  return shape
}
