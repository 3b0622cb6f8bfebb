import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { type Answer, aNode, drive, fakeAdmin, llamero, start } from '../support/cli.ts'

/** A node that is cordoned by the first PATCH and whose requests end one after the other. */
function draining(looks: readonly Record<string, number>[]): Record<string, Answer> {
  let at = 0
  return {
    'PATCH /nodes/gpu-b': { body: {} },
    'GET /nodes/gpu-b': (response) => {
      const running_by_instance = looks[Math.min(at++, looks.length - 1)] ?? {}
      const running = Object.values(running_by_instance).reduce((sum, count) => sum + count, 0)
      response.end(JSON.stringify(aNode({ name: 'gpu-b', state: 'cordoned', running, running_by_instance })))
    },
  }
}

test('drain cordons, shows what it waits for, and ends when the node is idle', async (t) => {
  const { url, received } = await fakeAdmin(t, draining([{ a: 1, b: 1 }, { a: 1, b: 1 }, { b: 1 }, {}]))
  const clock = new VirtualClock()
  const { done, stdout, stderr } = start('node drain gpu-b', { url, clock })
  assert.equal(await drive(clock, done), 0)
  assert.deepEqual(received[0]?.body, { state: 'cordoned' })
  assert.equal(stdout.text, '')
  assert.equal(
    stderr.text,
    [
      'gpu-b: cordoned; waiting up to 5m for its requests to end',
      'gpu-b: 2 requests running on instances a, b',
      'gpu-b: 1 request running on instance b',
      'gpu-b: no requests running; waiting until every instance has seen the cordon',
      'gpu-b: drained in 6.0s',
      '  hint: llamero node uncordon gpu-b',
      '',
    ].join('\n'),
  )
})

test('drain on a terminal redraws one line', async (t) => {
  const { url } = await fakeAdmin(t, draining([{ a: 2 }, { a: 1 }, {}]))
  const clock = new VirtualClock()
  const { done, stderr } = start('node drain gpu-b', { url, clock, tty: true })
  assert.equal(await drive(clock, done), 0)
  assert.ok(stderr.text.includes('\r\u001b[Kgpu-b: 2 requests running on instance a\r\u001b[Kgpu-b: 1 '))
  assert.ok(stderr.text.includes('\r\u001b[Kgpu-b: drained in 5.0s\n'), stderr.text)
})

test('drain gives up after --timeout with exit code 8 and leaves the node cordoned', async (t) => {
  const { url, received } = await fakeAdmin(t, draining([{ a: 1 }]))
  const clock = new VirtualClock()
  const { done, stderr } = start('node drain gpu-b --timeout 3s', { url, clock })
  assert.equal(await drive(clock, done), 8)
  assert.equal(clock.now(), 3000)
  assert.match(stderr.text, /error: gpu-b: 1 request running on instance a after 3\.0s; it stays cordoned/)
  assert.equal(received.filter(({ method }) => method === 'PATCH').length, 1)
})

test('drain --no-wait cordons and returns', async (t) => {
  const { url, received } = await fakeAdmin(t, draining([{ a: 1 }]))
  const { code, err } = await llamero('node drain gpu-b --no-wait', { url })
  assert.equal(code, 0)
  assert.equal(err, 'gpu-b: cordoned\n  hint: llamero node show gpu-b\n')
  assert.equal(received.length, 1)
})

test('a command that only waits for a timer keeps its process alive', async (t) => {
  const { url } = await fakeAdmin(t, draining([{ a: 1 }, {}]))
  const moduleUrl = (path: string) => JSON.stringify(new URL(`../../lib/${path}`, import.meta.url).href)
  const program = `
    import { runCli } from ${moduleUrl('cli/program.ts')}
    import { RealClock } from ${moduleUrl('shared/clock.ts')}
    const { stdin, stdout, stderr } = process
    process.exitCode = await runCli(['node', 'drain', 'gpu-b'], {
      adminUrl: '${url}', adminToken: () => null, stdin, stdout, stderr, colour: false, version: '1.2.3',
      clock: new RealClock(0.1), signal: new AbortController().signal, settings: () => [], run: {},
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program])
  t.after(() => child.kill('SIGKILL'))
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  assert.match(said, /gpu-b: drained in/)
  assert.equal(code, 0)
})

test('Ctrl-C ends a command with exit code 130; an interrupted drain names the state it leaves', async (t) => {
  const { url } = await fakeAdmin(t, { ...draining([{ a: 1 }]), 'GET /status': () => {} })
  for (const line of ['node drain gpu-b', 'status']) {
    const stop = new AbortController()
    const { done, stderr } = start(line, { url, signal: stop.signal })
    while (line !== 'status' && !stderr.text.includes('running on'))
      await new Promise((resolve) => setImmediate(resolve))
    stop.abort()
    assert.equal(await done, 130)
    assert.equal(
      stderr.text.includes('gpu-b: stays cordoned\n  hint: llamero node uncordon gpu-b\n'),
      line !== 'status',
    )
  }
})
