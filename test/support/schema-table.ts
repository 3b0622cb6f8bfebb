import { z } from 'zod'
import { code, plain } from './markdown.ts'

/** What a page says of a JSON Schema. */
export interface Shape {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly format?: string
  readonly description?: string
  readonly default?: unknown
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Shape[]
  readonly items?: Shape
  readonly minimum?: number
  readonly maximum?: number
  readonly properties?: Readonly<Record<string, Shape>>
  readonly additionalProperties?: Shape | boolean
  readonly required?: readonly string[]
}

/** One row for each field of what callers or operators write, at any depth: name, type, default, meaning. */
export function fieldsOf(schema: z.ZodType): string[][] {
  return rowsOf(z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Shape)
}

export function rowsOf(shape: Shape, prefix = ''): string[][] {
  const { properties = {}, required = [] } = objectIn(shape)
  return Object.entries(properties).flatMap(([name, field]) => {
    const path = `${prefix}${name}`
    const inner = rowsOf(field, `${path}.`)
    const entries = field.items ? rowsOf(field.items, `${path}[].`) : []
    const isGroup = inner.length > 0 && field.description === undefined
    const fallback = required.includes(name) ? 'required' : defaultOf(field)
    const own = [code(path), typeOf(field), fallback, plain(field.description ?? '')]
    return [...(isGroup ? [] : [own]), ...inner, ...entries]
  })
}

/** The only object that it may be. */
function objectIn(shape: Shape): Shape {
  const objects = (shape.anyOf ?? [shape]).filter(({ properties }) => properties)
  return (objects.length === 1 && objects[0]) || {}
}

function defaultOf({ default: value, properties }: Shape): string {
  return value === undefined || properties ? '' : code(JSON.stringify(value))
}

/** Integers of JSON have no more digits: that bound says nothing. */
const unbounded = Number.MAX_SAFE_INTEGER

export function typeOf(shape: Shape): string {
  const { $ref, type = '', format, anyOf, items, minimum, maximum, additionalProperties: values } = shape
  if ($ref !== undefined) return linkTo($ref)
  if (shape.const !== undefined) return code(String(shape.const))
  if (shape.enum) return shape.enum.map((each) => code(String(each))).join(', ')
  if (anyOf) return [...new Set(anyOf.map(typeOf))].join(' or ')
  if (Array.isArray(type)) return type.map((each) => typeOf({ ...shape, type: each })).join(' or ')
  if (type === 'null') return 'null'
  if (format === 'duration' || format === 'date-time') return format === 'duration' ? format : 'date'
  if (items) return objectIn(items).properties ? 'list' : `list of ${typeOf(items)}`
  if (typeof values === 'object' && Object.keys(values).length > 0) return `map of ${typeOf(values)}`
  if (type === 'object') return 'map'
  if (type === 'string') return 'text'
  const bounds = [
    minimum !== undefined && minimum > -unbounded ? `from ${minimum}` : '',
    maximum !== undefined && maximum < unbounded ? `to ${maximum}` : '',
  ].filter((each) => each !== '')
  return type === '' ? 'any' : [type, ...bounds].join(' ')
}

/** To the section about a schema that has a name. */
export function linkTo(reference: string): string {
  const name = reference.split('/').at(-1) ?? ''
  return `[${name}](#${name.toLowerCase()})`
}
