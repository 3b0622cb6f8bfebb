import assert from 'node:assert/strict'
import { hostname } from 'node:os'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { chat, get, post, startWireGateway } from '../support/wire-gateway.ts'

const token = 'llm_of-the-team'
const keys = new Map([['team', apiKeySchema.parse({ hash: hashToken(token), tenant: 'team' })]])
const bearer = `Authorization: Bearer ${token}\r\n`
const withHost = (request: string, host: string) => request.replace('Host: x\r\n', `Host: ${host}\r\n`)
const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1])
const loopbackRule = { addresses: [{ cidr: ['127.0.0.0/8'], scopes: ['inference', 'admin'] }] }

suite('a web page that rebinds its host name to a listener', () => {
  const requests: readonly [string, string][] = [
    ['a list of models', get('/api/tags', 'Host: x\r\n')],
    ['the heartbeat', get('/', 'Host: x\r\n')],
    ['a chat', post('/api/chat', chat)],
    ['a deletion', post('/api/delete', '{"model":"m"}').replace('POST', 'DELETE')],
    ['a pull', post('/api/pull', '{"model":"m"}')],
  ]
  for (const [name, bytes] of requests)
    test(`gets no answer to ${name} on loopback, and reaches no node (341)`, async () => {
      await using wire = await startWireGateway({ config: { auth: loopbackRule } })
      for (const host of [
        'evil.example',
        'evil.example:11435',
        '203.0.113.7',
        'localhost.evil.example',
        'x',
      ]) {
        const origin = `Origin: http://${host}\r\n\r\n`
        for (const sent of [bytes, bytes.replace('\r\n\r\n', `\r\n${origin}`)]) {
          const answer = await wire.send(withHost(sent, host))
          assert.equal(statusOf(answer), 403, answer)
          assert.match(answer, /auth\.hosts \(llamero config edit\)/)
        }
      }
      assert.equal(wire.node.received.length, 0)
    })

  test('gets the error in the format of the path (341)', async () => {
    await using wire = await startWireGateway()
    const ask = (path: string) => wire.send(withHost(post(path, chat), 'evil.example'))
    assert.match(
      await ask('/v1/chat/completions'),
      /"error":\{"message":"without an API key, requests to host/,
    )
    assert.match(await ask('/v1/messages'), /"type":"error".*"permission_error"/)
  })

  test('is refused by address rules on every other listener too, also for reads (341)', async () => {
    await using wire = await startWireGateway({ loopback: false, config: { auth: loopbackRule } })
    for (const page of [
      'Origin: http://evil.example',
      'Referer: http://evil.example/',
      'Sec-Fetch-Site: same-origin',
    ])
      for (const bytes of [
        post('/api/chat', chat, `${page}\r\n`),
        get('/api/tags', `Host: x\r\n${page}\r\n`),
      ])
        assert.equal(statusOf(await wire.send(withHost(bytes, 'evil.example'))), 403, page)
    assert.equal(statusOf(await wire.send(withHost(post('/api/chat', chat), 'gpu.example'))), 200)
    assert.equal(statusOf(await wire.send(withHost(get('/', 'Host: x\r\n'), 'gpu.example'))), 200)
  })
})

suite('a caller on loopback', () => {
  test('may name this machine and its network as Ollama allows (341)', async () => {
    await using wire = await startWireGateway()
    const own = [
      hostname(),
      hostname().toUpperCase(),
      'localhost',
      'LOCALHOST:80',
      'localhost:',
      'a.localhost',
      'gpu.local',
    ]
    const addresses = [
      '127.0.0.1:11435',
      '127.9.9.9',
      '[::1]',
      '0.0.0.0',
      '10.0.0.1',
      '172.16.0.1',
      '192.168.1.1',
    ]
    for (const host of [...own, 'host.docker.internal:11435', ...addresses, '[fd00::1]:11435'])
      assert.equal(
        statusOf(await wire.send(withHost(post('/api/chat', chat), host), /"done":true/)),
        200,
        host,
      )
  })

  test('may name what auth.hosts names, and any host with a key (341)', async () => {
    const config = { auth: { hosts: ['llm.example.com', '*.corp.example'] } }
    await using wire = await startWireGateway({ keys, config })
    for (const host of ['llm.example.com:443', 'LLM.example.com', 'a.b.corp.example'])
      assert.equal(
        statusOf(await wire.send(withHost(post('/api/chat', chat), host), /"done":true/)),
        200,
        host,
      )
    const foreign = (headers: string) => wire.send(withHost(post('/api/chat', chat, headers), 'corp.example'))
    assert.equal(statusOf(await foreign('')), 403)
    assert.equal(statusOf(await foreign('Authorization: Bearer ollama\r\n')), 403)
    assert.equal(statusOf(await foreign('Authorization: Bearer llm_wrong\r\n')), 401)
    assert.equal(statusOf(await foreign(bearer)), 200)
  })

  const proxied = [
    'Forwarded: for=127.0.0.1',
    'X-Forwarded-For: 127.0.0.1',
    'X-FORWARDED-HOST: localhost',
    'x-forwarded-proto: https',
    'X-Forwarded-Whatever:',
    'X-Real-IP: ::1',
    'Via: 1.1 nginx',
    'CF-Connecting-IP: 127.0.0.1',
    'True-Client-IP: 127.0.0.1',
    'X-Forwarded: for=127.0.0.1',
    'CDN-Loop: cloudflare',
    'Fastly-Client-IP: 127.0.0.1',
    'WL-Proxy-Client-IP: 127.0.0.1',
    'X_Forwarded_For: 127.0.0.1',
    'X-RealIP: 127.0.0.1',
    'Client-IP: 127.0.0.1',
    'Fly-Client-IP: 127.0.0.1',
    'X-Vercel-Forwarded-For: 127.0.0.1',
    'X-Nf-Client-Connection-Ip: 127.0.0.1',
    'X-Originating-IP: 127.0.0.1',
    'CF-Ray: 1',
    'X-Envoy-Original-Path: /',
    'X-Original-Host: localhost',
    'Tailscale-User-Login: a@b',
  ]
  for (const header of proxied)
    test(`that came through a proxy (${header}) needs a key at any address (342)`, async () => {
      for (const loopback of [true, false]) {
        await using wire = await startWireGateway({
          keys,
          loopback,
          config: { auth: { hosts: ['x'], ...loopbackRule } },
        })
        const ask = (more: string) =>
          wire.send(post('/api/chat', chat, `${header}\r\n${more}`), /"done":true/)
        const refusal = await ask('')
        assert.equal(statusOf(refusal), 403)
        assert.match(refusal, /came through a proxy .*llamero key create/)
        assert.equal(statusOf(await ask('Authorization: Bearer ollama\r\n')), 401)
        assert.equal(statusOf(await wire.send(post('/api/pull', '{"model":"m"}', `${header}\r\n`))), 403)
        assert.equal(wire.node.received.length, 0)
        assert.equal(statusOf(await ask(bearer)), 200)
        assert.equal(
          statusOf(await wire.send(get('/', `Host: x\r\n${header}\r\n`), /is running/)),
          200,
          'the heartbeat is open',
        )
      }
    })

  test('needs a key when auth.anonymous is none, except for the heartbeat and by address rules (342)', async () => {
    const auth = { hosts: ['x'], anonymous: 'none' }
    await using wire = await startWireGateway({ keys, config: { auth } })
    const refusal = await wire.send(post('/api/chat', chat))
    assert.equal(statusOf(refusal), 403)
    assert.match(refusal, /auth\.anonymous is none.*llamero key create/)
    assert.equal(statusOf(await wire.send(post('/api/chat', chat, bearer))), 200)
    assert.equal(statusOf(await wire.send(get('/', 'Host: x\r\n'))), 200)
    await using ruled = await startWireGateway({ keys, config: { auth: { ...auth, ...loopbackRule } } })
    assert.equal(statusOf(await ruled.send(post('/api/chat', chat))), 200)
  })
})
