import { setImmediate } from 'node:timers/promises'
import { z } from 'zod'
import { configSchema, routeSchema } from '../fleet/config.ts'
import { nodeSchema } from '../fleet/node.ts'
import { type ErrorCode, ProxyError } from '../shared/errors.ts'
import { effectiveConfig } from './config.ts'
import { faultAnswer, patchBody } from './documents.ts'
import { apiVersion, type Endpoint, type Endpoints } from './endpoint.ts'
import { errorAnswer } from './error.ts'
import { candidateAnswer, estimateAnswer, excludedNode } from './estimate.ts'
import { jobAnswer } from './jobs.ts'
import { copyAnswer, loadedAnswer, modelAnswer } from './models.ts'
import { nodeAnswer } from './nodes.ts'
import { waitingAnswer } from './queue.ts'

type Json = Readonly<Record<string, unknown>>

/** Schemas that several operations share, by their names in the document: `sent` by callers, `told` to them. */
const sent = { Config: configSchema, NodeSpec: nodeSchema, RouteSpec: routeSchema, Patch: patchBody }
const told = {
  Error: errorAnswer,
  Fault: faultAnswer,
  Node: nodeAnswer,
  Model: modelAnswer,
  LoadedModel: loadedAnswer,
  ModelCopy: copyAnswer,
  Job: jobAnswer,
  Candidate: candidateAnswer,
  ExcludedNode: excludedNode,
  Estimate: estimateAnswer,
  WaitingRequest: waitingAnswer,
}

type OpenApiDocument = Json & { readonly openapi: string }

/**
 * The OpenAPI 3.1 document of `endpoints`. It takes tens of milliseconds, in slices of a few, so that requests go on.
 *
 * @param version of llamero.
 */
export async function openApi(endpoints: Endpoints, version: string): Promise<OpenApiDocument> {
  const paths: Record<string, Record<string, Json>> = {}
  const bodies: Record<string, z.ZodType> = { ...sent }
  const answers: Record<string, z.ZodType> = { ...told }
  for (const [id, endpoint] of Object.entries(endpoints)) {
    const { method, body, answer } = endpoint
    const path = endpoint.path.replaceAll(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [method]: operation(id, endpoint) }
    const asked = body && ('fields' in body ? body.fields : body.document)
    if (asked && asked !== patchBody) bodies[bodyName(id)] = asked
    const answered = answer && jsonOf(answer)
    if (answered) answers[answerName(id)] = answered
    await setImmediate()
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'llamero admin API',
      version,
      description: `Every JSON answer carries "apiVersion": "${apiVersion}"; within it fields are only added.`,
    },
    paths,
    components: {
      schemas: {
        ...(await schemasOf(bodies, 'input')),
        ...(await schemasOf(answers, 'output')),
      },
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description:
            'the admin token, or an API key of scope admin. Reads are open to callers of a listener on loopback, unless auth.anonymous says otherwise or a proxy passed the request on',
        },
      },
    },
  }
}

/** The schema of a JSON answer on the wire; null: the answer is not JSON. */
export function jsonOf(answer: NonNullable<Endpoint['answer']>): z.ZodObject | null {
  if ('foreign' in answer) return answer.foreign
  if ('json' in answer) return z.object({ apiVersion: z.literal(apiVersion), ...answer.json.shape })
  return null
}

function operation(id: string, endpoint: Endpoint): Json {
  const { method, summary, access, body } = endpoint
  const isOpenRead = method === 'get' && access !== 'open'
  const parameters = parametersOf(endpoint)
  return {
    operationId: id,
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(body && { requestBody: requestBody(id, body) }),
    responses: { ...successes(id, endpoint), ...refusals(endpoint) },
    security: access === 'open' ? [] : isOpenRead ? [{}, { token: [] }] : [{ token: [] }],
  }
}

function parametersOf({ params = {}, query, headers = {} }: Endpoint): Json[] {
  const text = { type: 'string' }
  const { properties = {}, required = [] } = query ? schemaOf(query) : {}
  return [
    ...Object.entries(params).map(([name, description]) => ({
      name,
      in: 'path',
      required: true,
      description,
      schema: text,
    })),
    ...Object.entries(properties as Record<string, Json>).map(([name, { description, ...schema }]) => ({
      name,
      in: 'query',
      required: (required as readonly string[]).includes(name),
      description,
      schema,
    })),
    ...Object.entries(headers).map(([name, description]) => ({
      name,
      in: 'header',
      description,
      schema: text,
    })),
  ]
}

function requestBody(id: string, body: NonNullable<Endpoint['body']>): Json {
  const isPatch = 'document' in body && body.document === patchBody
  const isRequired = 'document' in body || !isOptional(body.fields)
  return { required: isRequired, content: json(isPatch ? 'Patch' : bodyName(id)) }
}

/** Whether an absent body passes. */
export function isOptional(fields: z.ZodType): boolean {
  return fields.safeParse(undefined).success
}

const meanings: Readonly<Record<number, string>> = {
  200: 'done',
  201: 'made',
  202: 'accepted: it goes on',
  204: 'removed',
}

function successes(id: string, { answer, statuses = [200] }: Endpoint): Record<string, Json> {
  if (answer && 'text' in answer) {
    const { text, no, type = 'text/plain' } = answer
    const content = { [type]: { schema: { type: 'string' } } }
    return {
      200: { description: text, content },
      ...(no !== undefined && { 503: { description: no, content } }),
    }
  }
  const content = answer === null ? {} : { content: json(answerName(id)) }
  return Object.fromEntries(
    statuses.map((status) => [status, { description: meanings[status] ?? '', ...content }]),
  )
}

/** The errors of an operation, by status. */
function refusals({ method, access, body, errors = [] }: Endpoint): Record<string, Json> {
  const codes = new Set<ErrorCode>(['foreign_host', 'internal'])
  const add = (...more: readonly ErrorCode[]) => {
    for (const code of more) codes.add(code)
  }
  add(...errors)
  if (access !== 'open') add('admin_token_required', 'key_expired', 'forbidden')
  if (body) add('bad_request', 'body_too_large', 'unsupported_encoding')
  if (access !== 'open') add('invalid')
  if (access !== 'open' && method !== 'get') add('store_unavailable')
  const byStatus = Map.groupBy([...codes].sort(), (code) => new ProxyError(code).status)
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => [
      status,
      { description: `error.code is ${group.join(' or ')}`, content: json('Error') },
    ]),
  )
}

function json(name: string): Json {
  return { 'application/json': { schema: { $ref: refTo(name) } } }
}

function refTo(name: string): string {
  return `#/components/schemas/${name}`
}

function bodyName(id: string): string {
  return `${id.charAt(0).toUpperCase()}${id.slice(1)}Body`
}

function answerName(id: string): string {
  return `${id.charAt(0).toUpperCase()}${id.slice(1)}Answer`
}

type Names = ReadonlyMap<z.core.$ZodType, string>

/** JSON schemas that refer to each other, by name. */
async function schemasOf(schemas: Readonly<Record<string, z.ZodType>>, io: 'input' | 'output') {
  const names: Names = new Map(Object.entries(schemas).map(([name, schema]) => [schema, name]))
  const made: Record<string, Json> = {}
  for (const [name, schema] of Object.entries(schemas)) {
    made[name] = schemaOf(schema, io, names)
    await setImmediate()
  }
  return made
}

/** @param names those of other schemas: where they are used, the result refers to them. */
function schemaOf(schema: z.ZodType, io: 'input' | 'output' = 'input', names: Names = new Map()): Json {
  const override = (converted: Converted) => {
    const name = converted.zodSchema === schema ? undefined : names.get(converted.zodSchema)
    if (name === undefined) tidy(converted)
    else replaceWith(converted.jsonSchema, { $ref: refTo(name) })
  }
  const { $schema: _, ...made } = z.toJSONSchema(schema, { io, unrepresentable: 'any', override })
  return made
}

interface Converted {
  readonly zodSchema: z.core.$ZodType
  readonly jsonSchema: z.core.JSONSchema.BaseSchema
}

function tidy({ zodSchema, jsonSchema }: Converted): void {
  if (zodSchema === effectiveConfig) jsonSchema.$ref = refTo('Config')
  // zod forbids further fields in an answer; the next version may add some.
  const { def } = zodSchema._zod
  if (def.type === 'object' && !('catchall' in def && def.catchall)) delete jsonSchema.additionalProperties
  // The bounds of JavaScript's integers say nothing about this field.
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum
}

function replaceWith(jsonSchema: z.core.JSONSchema.BaseSchema, other: z.core.JSONSchema.BaseSchema): void {
  for (const field of Object.keys(jsonSchema)) delete jsonSchema[field]
  Object.assign(jsonSchema, other)
}
