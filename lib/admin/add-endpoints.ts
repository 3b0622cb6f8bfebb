import type { IncomingHttpHeaders } from 'node:http'
import type Router from '@koa/router'
import type { RouterContext } from '@koa/router'
import { z } from 'zod'
import { apiVersion, type ContentOf, type Endpoint, type Endpoints } from '../api/endpoint.ts'
import { isOptional } from '../api/openapi.ts'
import { describeFaults } from '../fleet/documents/contents.ts'
import { readValue } from '../fleet/documents/document.ts'
import { ProxyError } from '../shared/errors.ts'

/** What a handler gets: everything that its endpoint declares, checked. */
export interface AdminRequest<E extends Endpoint = Endpoint> {
  readonly params: { readonly [Name in keyof E['params']]: string }
  readonly query: E['query'] extends z.ZodType ? z.output<E['query']> : undefined
  readonly body: BodyOf<E>
  readonly headers: IncomingHttpHeaders
}

type BodyOf<E extends Endpoint> = E['body'] extends { readonly fields: infer S extends z.ZodType }
  ? z.output<S>
  : E['body'] extends { readonly document: z.ZodType }
    ? Readonly<Record<string, unknown>>
    : undefined

/** An answer with another status than the first one of its endpoint. */
export class Reply<Status extends number, Content> {
  readonly status: Status
  readonly content: Content

  constructor(status: Status, content: Content) {
    this.status = status
    this.content = content
  }
}

type Status<E extends Endpoint> = E['answer'] extends { readonly no: string }
  ? 503
  : E['statuses'] extends readonly number[]
    ? E['statuses'][number]
    : never

type Answered<E extends Endpoint> = ContentOf<E> | Reply<Status<E>, ContentOf<E>>
type Handler<E extends Endpoint> = (request: AdminRequest<E>) => Answered<E> | Promise<Answered<E>>

/** One handler for each of some endpoints. */
export type Handlers<Table extends Endpoints> = { readonly [Id in keyof Table]: Handler<Table[Id]> }

/** Adds every endpoint of `table` to its router, in the table's order. */
export function addEndpoints<Table extends Endpoints>(
  table: Table,
  handlers: Handlers<Table>,
  routerOf: (endpoint: Endpoint) => Router,
): void {
  for (const id in table) {
    const endpoint: Endpoint = table[id] as Endpoint
    const handle = handlers[id] as (request: AdminRequest) => unknown
    routerOf(endpoint)[endpoint.method](endpoint.path, async (context) => {
      write(context, endpoint, await handle(read(context, endpoint)))
    })
  }
}

/** For paths without parameters: a misspelt or misplaced one, such as `dry_run`, must not be ignored. */
const noParameters = z.strictObject({})

function read(context: RouterContext, { query, body, access }: Endpoint): AdminRequest {
  const { params, headers } = context
  const parameters = query ?? (access === 'open' ? undefined : noParameters)
  const checkedQuery = parameters && checked(context.query, parameters)
  const checkedBody = body && bodyOf(context.request.body, body)
  return { params, query: checkedQuery, body: checkedBody, headers } as AdminRequest
}

function bodyOf(given: unknown, body: NonNullable<Endpoint['body']>): unknown {
  const isObject = typeof given === 'object' && given !== null && !Array.isArray(given)
  const isAbsent = given === undefined && 'fields' in body && isOptional(body.fields)
  if (!isObject && !isAbsent)
    throw new ProxyError('bad_request', { reason: 'the body must be a JSON object' })
  return 'document' in body ? given : checked(given, body.fields)
}

/** @throws ProxyError `invalid` that names every faulty field. */
function checked(value: unknown, schema: z.ZodType): unknown {
  const parsed = readValue(value, schema)
  if (!parsed.ok) throw new ProxyError('invalid', { reason: describeFaults(parsed.faults) })
  return parsed.value
}

function write(
  context: RouterContext,
  { answer, statuses: [status = 200] = [] }: Endpoint,
  given: unknown,
): void {
  const { status: own, content } = given instanceof Reply ? given : { status, content: given }
  context.status = own
  if (answer === null) return
  if ('text' in answer && answer.type !== undefined) context.type = answer.type
  context.body = 'json' in answer ? { apiVersion, ...(content as object) } : content
}
