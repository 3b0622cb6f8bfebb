import type { Endpoint, Endpoints } from '../../lib/api/endpoint.ts'
import { endpoints } from '../../lib/api/endpoints.ts'
import { openApi } from '../../lib/api/openapi.ts'
import { ProxyError } from '../../lib/shared/errors.ts'
import { code, page, plain, table } from './markdown.ts'
import { linkTo, rowsOf, type Shape, typeOf } from './schema-table.ts'

interface Content {
  readonly content?: { readonly 'application/json'?: { readonly schema: { readonly $ref: string } } }
}

interface Operation {
  readonly operationId: string
  readonly parameters?: readonly {
    readonly name: string
    readonly in: string
    readonly description?: string
  }[]
  readonly requestBody?: Content
  readonly responses: Readonly<Record<string, Content & { readonly description: string }>>
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Shape>> }
}

/** The page about the admin API, as its OpenAPI document says it. */
export async function adminApi(): Promise<string> {
  const { paths, components } = (await openApi(endpoints, '')) as unknown as Document
  const all = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  const byNoun = Map.groupBy(all, ({ path }) => /^\/admin\/v1\/([\w-]+)/.exec(path)?.[1] ?? 'health')
  return page(
    'Admin API',
    'What the admin listener answers (`127.0.0.1:11400` unless `LLAMERO_ADMIN` says otherwise). `GET /admin/v1/openapi.json` has the same for programs, as OpenAPI 3.1. Every JSON answer begins with `"apiVersion": "llamero/v1"`; within it fields are only ever added.',
    'The paths of [health](#health) are open. Reads are open on a loopback listener, unless `auth.anonymous` is `none` or a proxy passed the request on. Everything else needs `Authorization: Bearer TOKEN` with the admin token or a key of scope `admin`. Errors are `{"error": {"code", "message"}}`; besides those named here every request may meet 401 `admin_token_required`, 403 `foreign_host` and 500 `internal` ([all](errors.md)).',
    ...[...byNoun].flatMap(([noun, group]) => [
      `## ${noun}`,
      ...group.map(({ path, method, operation }) =>
        section(
          `${method.toUpperCase()} ${path}`,
          operation,
          (endpoints as Endpoints)[operation.operationId],
        ),
      ),
    ]),
    '## Schemas',
    ...Object.entries(components.schemas).map(([name, shape]) => schema(name, shape, components.schemas)),
  )
}

function section(title: string, operation: Operation, endpoint: Endpoint | undefined): string {
  const { parameters = [], requestBody, responses } = operation
  const rows = parameters.map((each) => [code(each.name), each.in, plain(each.description ?? '')])
  const successes = Object.entries(responses).filter(
    ([, { description }]) => !description.startsWith('error.code'),
  )
  const answers = successes.map(([status, each]) => {
    const answer = referenceIn(each)
    return `${status} ${answer === null ? plain(each.description) : linkTo(answer)}`
  })
  const errors = (endpoint?.errors ?? []).map((each) => `${new ProxyError(each).status} ${code(each)}`)
  const body = requestBody && referenceIn(requestBody)
  return [
    `### \`${title}\``,
    endpoint?.summary ?? '',
    ...(rows.length > 0 ? [table(['parameter', 'in', 'meaning'], rows)] : []),
    [
      ...(body ? [`Body: ${linkTo(body)}. `] : []),
      `Answers: ${answers.join(', ')}.`,
      ...(errors.length > 0 ? [` Refused with: ${errors.join(', ')}.`] : []),
    ].join(''),
  ].join('\n\n')
}

function referenceIn({ content }: Content): string | null {
  return content?.['application/json']?.schema.$ref ?? null
}

/** Schemas that another page describes: operators write the same documents. */
const described: Readonly<Record<string, string>> = {
  Config: 'configuration.md#config',
  NodeSpec: 'configuration.md#nodesname',
  RouteSpec: 'configuration.md#routesname',
}

function schema(name: string, shape: Shape, schemas: Document['components']['schemas']): string {
  const parts = [`### ${name}`, ...(shape.description ? [plain(shape.description)] : [])]
  const elsewhere = described[name]
  if (elsewhere) return [...parts, `The document that [configuration](${elsewhere}) describes.`].join('\n\n')
  const forms = (shape.anyOf ?? [shape]).map((form) => {
    const same = Object.entries(schemas).find(
      ([other, it]) => !/(Body|Answer)$/.test(other) && isSame(it, form),
    )
    return same ? linkTo(same[0]) : fieldTable(form)
  })
  return [...parts, forms.join('\n\nor\n\n')].join('\n\n')
}

function isSame(a: Shape, b: Shape): boolean {
  return a.properties !== undefined && JSON.stringify(a.properties) === JSON.stringify(b.properties)
}

function fieldTable(shape: Shape): string {
  const rows = rowsOf(shape)
    .filter(([field]) => field !== '`apiVersion`')
    .map(([field = '', type = '', fallback = '', meaning = '']) => {
      return [field, type, fallback === 'required' ? '' : fallback || 'optional', meaning]
    })
  return rows.length > 0 ? table(['field', 'type', 'default', 'meaning'], rows) : typeOf(shape)
}
