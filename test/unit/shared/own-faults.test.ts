import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { ownFaultOf } from '../../../lib/shared/process/own-fault.ts'
import { OwnFaults } from '../../../lib/shared/process/own-faults.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'
import { recordingLog } from '../../support/log.ts'

const failed = (code: string, rest: object = {}) =>
  Object.assign(new Error(`connect ${code}`), { code, syscall: 'connect', ...rest })
const yes = () => true
const no = () => false

suite('a failed call', () => {
  for (const [code, resource] of [
    ['EMFILE', 'files'],
    ['ENFILE', 'files'],
    ['ENOBUFS', 'memory'],
    ['ENOMEM', 'memory'],
  ] as const)
    test(`with ${code} means that this process lacks ${resource} (309)`, () => {
      assert.equal(ownFaultOf(failed(code), yes), resource)
      assert.equal(
        ownFaultOf(new Error('fetch failed', { cause: failed(code) }), yes),
        resource,
        'as a cause',
      )
    })

  for (const code of ['ECONNREFUSED', 'ECONNRESET', 'EHOSTUNREACH', 'ETIMEDOUT', 'EPIPE', 'toString', ''])
    test(`with ${code || 'no code'} means no lack of this process (309)`, () => {
      assert.equal(ownFaultOf(failed(code), no), null)
    })

  test('without a local port is our fault, but not for an IPv6 address on a machine without IPv6 (309)', () => {
    assert.equal(ownFaultOf(failed('EADDRNOTAVAIL', { address: '10.0.0.1' }), yes), 'ports')
    assert.equal(ownFaultOf(failed('EADDRNOTAVAIL', { address: 'fd00::1' }), yes), null)
  })

  test('of a look-up is our fault while no file can be opened: the resolver does not say so (309)', () => {
    for (const code of ['EAI_AGAIN', 'ENOTFOUND']) {
      assert.equal(ownFaultOf(failed(code), no), 'files')
      assert.equal(ownFaultOf(failed(code), yes), null)
    }
  })

  test('of several addresses is our fault only when all are: a refusal by one comes from the peer (309)', () => {
    const each = (...codes: string[]) => new AggregateError(codes.map((code) => failed(code)))
    assert.equal(ownFaultOf(each('EMFILE', 'EMFILE'), yes), 'files')
    assert.equal(ownFaultOf(each('EMFILE', 'ECONNREFUSED'), yes), null)
  })
})

function someFaults() {
  const clock = new VirtualClock()
  const { log, lines } = recordingLog()
  const metrics = new Metrics()
  let files = true
  const faults = new OwnFaults({ clock, log, metrics, hasFiles: () => files })
  faults.start()
  const become = (has: boolean) => {
    files = has
  }
  const count = async () =>
    (await metrics.ownFaults.get()).values.map(({ labels, value }) => [labels.resource, value])
  const lacks = async () =>
    (await metrics.ownLack.get()).values.flatMap(({ labels, value }) => (value ? [labels.resource] : []))
  return { clock, lines, faults, become, count, lacks }
}

suite('what an instance lacks', () => {
  test('is logged once with the remedy, shown while it lasts, and logged when it is over (309)', async () => {
    const { clock, lines, faults, count, lacks } = someFaults()
    assert.equal(faults.reason, null)
    for (let n = 0; n < 3; n++) {
      faults.note(failed('EMFILE'))
      await clock.advance(2000)
      assert.equal(faults.reason, 'out of file descriptors')
    }
    assert.deepEqual(await count(), [['files', 3]])
    assert.deepEqual(await lacks(), ['files'])
    assert.deepEqual(
      lines.map(({ level, fields }) => [level, fields['resource']]),
      [['error', 'file descriptors']],
    )
    assert.match(String(lines[0]?.fields['hint']), /LimitNOFILE/)
    await clock.advance(5000)
    assert.equal(faults.reason, null)
    assert.deepEqual(await lacks(), [])
    assert.equal(lines.at(-1)?.message, 'this instance is no longer out of a resource')
    faults.stop()
  })

  test('is noticed without a failed call: the kernel accepts connections that the process never sees (309)', async () => {
    const { clock, faults, become } = someFaults()
    become(false)
    await clock.advance(1000)
    assert.equal(faults.reason, 'out of file descriptors')
    await clock.advance(60_000)
    assert.equal(faults.reason, 'out of file descriptors', 'as long as no file can be opened')
    become(true)
    await clock.advance(7000)
    assert.equal(faults.reason, null)
    faults.stop()
  })

  test('is no failure of a node (309)', async () => {
    const { faults, count } = someFaults()
    faults.note(failed('ECONNREFUSED'))
    assert.equal(faults.reason, null)
    assert.deepEqual(await count(), [])
    faults.stop()
  })
})
