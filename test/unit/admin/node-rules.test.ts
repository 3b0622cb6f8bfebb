import assert from 'node:assert/strict'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { checkHeadersStay, checkIsNoListener, listenersOf } from '../../../lib/admin/handlers/node-rules.ts'
import type { InstanceRecord } from '../../../lib/fleet/instance.ts'
import { nodeSchema } from '../../../lib/fleet/node.ts'
import { nodeUrlFault } from '../../../lib/fleet/node-url.ts'
import { lookupNode } from '../../../lib/shared/net/node-address.ts'
import { Via } from '../../../lib/shared/net/via.ts'

test('a node has no link-local or metadata address, however it is written (349)', () => {
  for (const host of [
    '169.254.169.254',
    '169.254.1.1',
    '0xA9FEA9FE',
    '2852039166',
    '169.254.43518',
    '[::ffff:169.254.169.254]',
    '[::ffff:a9fe:a9fe]',
    '[fe80::1]',
    '[FD00:EC2::254]',
    '[fd00:ec2::23]',
    '[fd00:42::42]',
    '[::169.254.169.254]',
    '[::ffff:0:169.254.169.254]',
    '[::ffff:100.100.100.200]',
    '[64:ff9b::a9fe:a9fe]',
    '[64:ff9b::192.0.0.192]',
    '[64:ff9b:1::a9fe:a9fe]',
    '[2002:a9fe:a9fe::1]',
    '[2002:a83f:8110::]',
    '[fd20:ce::254]',
    '100.100.100.200',
    '168.63.129.16',
    '192.0.0.192',
    'metadata.google.internal',
    'METADATA.google.internal.',
    'metadata',
    'instance-data',
  ])
    for (const url of [`http://${host}`, `https://${host}:11434/`])
      assert.match(nodeUrlFault(url) ?? '', /link-local or metadata address/, url)
  for (const host of [
    '127.0.0.1',
    '10.0.0.1',
    '[fd00::1]',
    '[::1]',
    '[2001:db8::a9fe:a9fe]',
    '[64:ff9b::10.0.0.1]',
    '[2002:a00:1::a9fe:a9fe]',
    '[1:2:3:4:5:6:7:8]',
    'gpu.internal',
    'metadata.example',
    '169.253.1.1',
  ])
    assert.equal(nodeUrlFault(`http://${host}:11434`), null, host)
})

test('a name that leads to such an address only cannot be connected to (349)', async () => {
  const lookup = promisify(lookupNode)
  await assert.rejects(lookup('169.254.169.254', { all: true }), { code: 'ERR_REFUSED_ADDRESS' })
  await assert.rejects(lookup('169.254.169.254', {}), { code: 'ERR_REFUSED_ADDRESS' })
  assert.deepEqual(await lookup('127.0.0.1', { all: true }), [{ address: '127.0.0.1', family: 4 }])
})

test('a request is known by the entry of this process, and of its cluster once that is known (349)', () => {
  const [via, other] = [new Via('0a1b-2c3d'), new Via('ffff')]
  assert.match(via.after(undefined), /^1\.1 llamero-0a1b2c3d$/)
  const first = via.after('1.0 nginx')
  assert.ok(first.startsWith('1.0 nginx, 1.1 llamero-'))
  assert.ok(via.isLoop(first) && via.isLoop(first.toUpperCase()) && via.isLoop(`${first},1.1 b`))
  assert.ok(!other.isLoop(first) && !via.isLoop('1.1 nginx') && !via.isLoop(''))
  for (const each of [via, other]) each.learn('5d1f0c2e-uid-of-the-store')
  assert.ok(via.isLoop(first), 'requests sent before are known still')
  assert.ok(other.isLoop(via.after(undefined)), 'another instance of the cluster knows it')
  via.learn('of-another-store')
  assert.ok(!via.isLoop(other.after(undefined)))
  assert.ok(via.isLoop(Array(33).fill('1.1 a').join()), 'no honest way is so long')
})

test("a node's headers follow it to another address only when the change says so (349)", () => {
  const headers = { authorization: 'Bearer s', 'x-b': '1' }
  const before = nodeSchema.parse({ url: 'http://a:1', headers })
  const moved =
    (named: unknown, kept: object = headers) =>
    () =>
      checkHeadersStay(before, nodeSchema.parse({ url: 'http://b:1', headers: kept }), named)
  assert.throws(moved(undefined), /\(authorization, x-b\) were set for http:\/\/a:1 and are not sent to/)
  assert.throws(moved({ 'x-b': '1' }), /\(authorization\)/)
  assert.throws(moved({ Authorization: null }), /\(authorization, x-b\)/)
  assert.throws(moved({}), /authorization/)
  moved({ authorization: 'Bearer s', 'x-b': '1' })()
  moved(null, {})()
  moved({ authorization: null, 'x-b': null }, {})()
  checkHeadersStay(before, nodeSchema.parse({ url: 'http://a:1', weight: 2, headers }), undefined)
  checkHeadersStay(null, before, undefined)
})

test('a listener of this instance is no node, by any name of this machine (349)', () => {
  const check = (url: string, host: string) => () =>
    checkIsNoListener(nodeSchema.parse({ url }), [{ host, port: 11435 }])
  for (const [url, host] of [
    ['http://127.0.0.1:11435', '127.0.0.1'],
    ['http://localhost:11435', '127.0.0.1'],
    ['http://localhost:11435', '::1'],
    ['http://[::1]:11435', '::1'],
    ['http://127.0.0.1:11435', 'localhost'],
    ['http://localhost.:11435', '127.0.0.1'],
    ['http://[::ffff:127.0.0.1]:11435', '127.0.0.1'],
    ['http://0.0.0.0:11435', '127.0.0.1'],
    ['http://x.localhost:11435', '::1'],
    ['http://127.9.9.9:11435', '0.0.0.0'],
    ['http://0.0.0.0:11435', '0.0.0.0'],
    ['http://localhost:11435', '::'],
    ['http://10.1.1.1:11435', '10.1.1.1'],
  ] as const)
    assert.throws(check(url, host), /is llamero itself/, `${url} ${host}`)
  for (const [url, host] of [
    ['http://127.0.0.1:11434', '127.0.0.1'],
    ['http://127.0.0.1:11435', '10.1.1.1'],
    ['http://0.0.0.0:11435', '10.1.1.1'],
    ['http://192.0.2.9:11435', '0.0.0.0'],
  ] as const)
    check(url, host)()
})

test('listeners of other instances are known by their records, where those name an address (349)', () => {
  const record = (data: string, admin: string) => ({ data, admin }) as InstanceRecord
  assert.deepEqual(
    listenersOf([
      record('10.0.0.5:11434', '127.0.0.1:11400'),
      record('0.0.0.0:11434', '[fd00::7]:11400'),
      record('unreadable', '[::]:1'),
    ]),
    [
      { host: '10.0.0.5', port: 11434 },
      { host: 'fd00::7', port: 11400 },
    ],
  )
})
