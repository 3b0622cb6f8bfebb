import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { startInstance } from '../support/instance.ts'
import {
  chat,
  get,
  post,
  refuses,
  startWireGateway,
  statuses,
  type WireCase,
} from '../support/wire-gateway.ts'

const notThere = /^HTTP\/1.1 40[04] /
const notServed = /^HTTP\/1.1 403 [\s\S]*llamero does not serve/
const adminOnly = /^HTTP\/1.1 403 [\s\S]*needs the scope admin/
const paths = (cited: string, targets: readonly string[]): WireCase[] =>
  targets.map((target) => ({
    name: `${target} ${cited}`,
    bytes: post(target, chat),
    answer: notThere,
  }))

const refused: readonly WireCase[] = [
  ...paths('(76)', ['//api//chat', '/api//chat', '//api/chat', '/api/chat//']),
  ...paths('(77)', [
    '/api/../admin',
    '/api/../api/chat',
    '/api/./chat',
    '/api/%2e%2e/admin',
    '/api/%2e%2e/api/chat',
    '/api/%252e',
    '/./api/chat',
  ]),
  ...paths('(78)', ['/api%2fchat', '/api%5cchat', '/\\evil/api', '/api\\chat', '//evil.example/api/tags']),
  ...paths('(79)', [
    '/api/chat;x=1',
    '/api/chat/',
    '/API/CHAT',
    '/api/Chat',
    '/api/chat%00',
    '/api/chat#x',
    '/api/ch%61t',
    '/api/chat%20',
  ]),
  ...paths('(80)', ['/%zz', '/api/%c0%ae%c0%ae/chat', '/api/%u002e/chat', '/%']),
  ...paths('(81)', ['http://[::1', 'http://a:99999999/x', 'api/chat', '?x']),
  ...['/api/signout', '/api/experimental/web_fetch', '/api/experimental/web_search', '/api/me'].map(
    (target) => ({
      name: `${target} (82)`,
      bytes: post(target, chat),
      answer: notServed,
    }),
  ),
  ...['/api/pull', '/api/push', '/api/create', '/api/copy', '/api/blobs/sha256:0'].map((target) => ({
    name: `${target} (82)`,
    bytes: post(target, chat),
    answer: adminOnly,
  })),
  {
    name: '/api/delete (82)',
    bytes: post('/api/delete', chat).replace('POST', 'DELETE'),
    answer: adminOnly,
  },
  { name: '/api/user/keys (82)', bytes: post('/api/user/keys', chat), answer: notThere },
  ...paths('(83)', ['/api/new', '/v2/chat', '/api/generate2']),
  ...paths('(84)', ['/admin/v1/status', '/admin/v1/nodes', '/metrics', '/livez', '/readyz', '/leader']),
  ...paths('(85)', ['/api/blobs/sha256:../../x']),
  ...['/api/blobs/sha256:zz', '/api/blobs/md5:0'].map((target) => ({
    name: `${target} (85)`,
    bytes: post(target, chat),
    answer: adminOnly,
  })),
]

suite('of paths, refused are', () => refuses(refused))

suite('a path', () => {
  test('may have a query, which is ignored (79)', async () => {
    await using wire = await startWireGateway()
    assert.match(await wire.send(post('/api/chat?x=//y/../z#', chat), /"done":true/), /^HTTP\/1.1 200 OK/)
    assert.match(wire.node.received.join(''), /^POST \/api\/chat HTTP\/1.1\r\n/)
    await wire.assertWell()
  })

  test('with a key in its query counts as without a key, and the log omits it (86)', async () => {
    const token = 'llm_valid-secret'
    const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken(token) })]])
    await using wire = await startWireGateway({ keys, loopback: false })
    for (const name of ['key', 'api_key', 'access_token']) {
      const answer = await wire.send(get(`/api/tags?${name}=${token}`), /\r\n\r\n./)
      assert.deepEqual(statuses(answer), ['403'])
      assert(!answer.includes(token))
    }
    assert(!JSON.stringify(wire.gateway.lines).includes(token))
    await wire.assertWell()
  })

  test('of the public port is unknown to the admin port, and the other way round (84)', async () => {
    await using instance = await startInstance()
    const headers = { authorization: `Bearer ${instance.token}` }
    const statusOf = async (url: string, init: RequestInit = {}) =>
      (await fetch(url, { ...init, headers })).status
    for (const path of ['/api/tags', '/api/version', '/v1/models']) {
      assert.equal(await statusOf(instance.adminUrl + path), 404)
    }
    assert.equal(await statusOf(`${instance.adminUrl}/api/chat`, { method: 'POST', body: chat }), 404)
    for (const path of ['/admin/v1/status', '/metrics', '/livez', '/readyz']) {
      assert.equal(await statusOf(instance.adminUrl + path), 200)
    }
  })
})
