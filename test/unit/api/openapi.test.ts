import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Endpoint } from '../../../lib/api/endpoint.ts'
import { endpoints } from '../../../lib/api/endpoints.ts'
import { openApi } from '../../../lib/api/openapi.ts'

type Json = Readonly<Record<string, unknown>>
interface Parameter {
  readonly name: string
  readonly in: string
  readonly required?: boolean
  readonly description: string
  readonly schema: Json
}
interface Operation {
  readonly operationId: string
  readonly summary: string
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Json }
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: Json }>>
  readonly security: readonly Json[]
}

/** Every object within a value, itself included. */
function* objectsIn(value: unknown): Generator<Json> {
  if (typeof value !== 'object' || value === null) return
  if (!Array.isArray(value)) yield value as Json
  for (const each of Object.values(value)) yield* objectsIn(each)
}

// As it is on the wire.
const document = JSON.parse(JSON.stringify(await openApi(endpoints, '1.2.3')))

suite('the OpenAPI document', () => {
  const paths: Readonly<Record<string, Readonly<Record<string, Operation>>>> = document.paths
  const operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, ...operation })),
  )

  test('is of OpenAPI 3.1, and names the API and its version', () => {
    assert.match(document.openapi, /^3\.1\.\d+$/)
    assert.deepEqual([document.info.title, document.info.version], ['llamero admin API', '1.2.3'])
  })

  test('has every endpoint once, under its method and path', () => {
    const listed = operations.map(({ path, method, operationId }) => `${operationId} ${method} ${path}`)
    const expected = Object.entries<Endpoint>(endpoints).map(
      ([id, { method, path }]) => `${id} ${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`,
    )
    assert.deepEqual(listed.toSorted(), expected.toSorted())
    assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length)
  })

  test('describes each parameter of each path, and no other', () => {
    for (const { path, operationId, parameters = [] } of operations) {
      const inPath = parameters.filter((each) => each.in === 'path')
      const names = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name)
      assert.deepEqual(
        inPath.map(({ name }) => name),
        names,
        operationId,
      )
      assert.ok(inPath.every(({ required }) => required === true))
      for (const { name, description, schema } of parameters)
        assert.ok(description && schema, `${operationId}: ${name}`)
    }
  })

  test('describes the answers and the authentication of every operation', () => {
    for (const { operationId, path, method, summary, responses, security } of operations) {
      assert.match(summary, /^[A-Z].*\.$/, operationId)
      const statuses = Object.keys(responses)
      assert.ok(
        statuses.some((status) => status.startsWith('2')),
        operationId,
      )
      assert.ok(statuses.every((status) => /^[2-5]\d\d$/.test(status)))
      assert.ok(
        Object.values(responses).every(({ description }) => description !== ''),
        operationId,
      )
      assert.equal('204' in responses && responses['204']?.content !== undefined, false, operationId)
      const isOpen = !path.startsWith('/admin/v1/')
      const expected = isOpen ? [] : method === 'get' ? [{}, { token: [] }] : [{ token: [] }]
      assert.deepEqual(security, expected, operationId)
    }
  })

  test('refers to schemas that it has, and has none to which nothing refers', () => {
    const names = Object.keys(document.components.schemas)
    const referred = [...objectsIn(document)].flatMap(({ $ref }) => (typeof $ref === 'string' ? [$ref] : []))
    assert.deepEqual(
      [...new Set(referred)].toSorted(),
      names.map((name) => `#/components/schemas/${name}`).toSorted(),
    )
    for (const { $id, $schema } of objectsIn(document.components.schemas))
      assert.deepEqual([$id, $schema], [undefined, undefined])
  })

  test('allows new fields in answers, and forbids unknown fields in requests', () => {
    const { schemas } = document.components
    assert.equal(schemas.Node.additionalProperties, undefined)
    assert.equal(schemas.NodeSpec.additionalProperties, false)
    assert.equal(schemas.ReadNodeAnswer.properties.apiVersion.const, 'llamero/v1')
  })
})
