import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { JobEnding } from '../../lib/cluster/jobs/node-task-answer.ts'
import { callNode } from '../../lib/cluster/jobs/node-task-call.ts'
import type { NodeTaskRequest } from '../../lib/cluster/jobs/node-task-request.ts'
import { nodeSchema } from '../../lib/fleet/node.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { eventually, rawAnswer, startRawNode } from '../support/wire.ts'

const tiny = aModel({ name: 'tiny:1b', sizeMiB: 10 })

async function aNode(t: { after(clean: () => unknown): void }): Promise<SimulatedNode> {
  const node = await SimulatedNode.start({ name: 'x', models: [], registry: [tiny], netMiBps: 100 })
  t.after(() => node.stop())
  return node
}

const ofPull: NodeTaskRequest = {
  method: 'POST',
  path: '/api/pull',
  body: { model: tiny.name, stream: true },
  isStream: true,
}

interface Choices {
  readonly clock?: VirtualClock
  readonly signal?: AbortSignal
  readonly order?: NodeTaskRequest
}

/** Asks for a pull of `tiny`, or something else, as a job would. */
function pull(
  url: string,
  { clock = new VirtualClock(), signal = new AbortController().signal, order = ofPull }: Choices = {},
) {
  const heard: (string | null)[] = []
  const ending: Promise<JobEnding> = callNode({
    spec: nodeSchema.parse({ url, headers: { 'x-key': 'secret' } }),
    order,
    connectMs: 1000,
    silenceMs: () => 60_000,
    heard: ({ status }) => heard.push(status),
    clock,
    signal,
  })
  return { ending, heard, clock }
}

test('a pull is told line by line, with the headers of the node', async (t) => {
  const node = await aNode(t)
  const { ending, heard } = pull(node.url)
  assert.deepEqual(await ending, { kind: 'done' })
  assert.equal(heard[0], 'pulling manifest')
  assert.equal(heard.at(-1), 'success')
  assert.ok(node.requests[0]?.rawHeaders.includes('secret'))
})

test('an answer that breaks off, ends early or falls silent can be gone on with', async (t) => {
  const node = await aNode(t)
  node.control.truncate(2, { times: 1 })
  const early = await pull(node.url).ending
  assert.match(early.kind === 'broken' ? early.error : '', /ended before "success"/)
  node.control.cutInChunk(1, { times: 1 })
  assert.equal((await pull(node.url).ending).kind, 'broken')
  node.control.blackhole({ times: 1 })
  const { ending, clock } = pull(node.url)
  await eventually(() => node.requests.length === 3, 'asked')
  await clock.advance(60_000)
  assert.deepEqual(await ending, { kind: 'broken', error: 'it sent nothing for 60 s' })
  await node.control.refuse()
  assert.deepEqual(await pull(node.url).ending, { kind: 'broken', error: 'connection refused' })
})

test('lines that are no JSON are passed over, and an endless one is not kept', async () => {
  await using strange = await startRawNode((socket) =>
    socket.end(rawAnswer('nonsense\n{"status":"success"}\n')),
  )
  assert.deepEqual(await pull(strange.url).ending, { kind: 'done' })
  await using endless = await startRawNode((socket) => socket.end(rawAnswer('x'.repeat(200_000))))
  assert.deepEqual(await pull(endless.url).ending, {
    kind: 'broken',
    error: 'a line of its answer is too long',
  })
})

test('a page of a proxy is no answer of the node, also with status 200, and its status is not told to callers (321)', async () => {
  const order = { method: 'DELETE', path: '/api/delete', body: { model: 'm' }, isStream: false } as const
  for (const [status, code] of [
    [200, 502],
    [204, 502],
    [302, 502],
    [404, 502],
    [413, 413],
  ] as const) {
    const body = status === 204 ? '' : '<html>\r\nlog in\r\n</html>'
    await using proxy = await startRawNode((socket) =>
      socket.end(rawAnswer(body, { status: `${status} Said`, type: 'text/html' })),
    )
    for (const ending of [await pull(proxy.url).ending, await pull(proxy.url, { order }).ending]) {
      assert.deepEqual([ending.kind, 'code' in ending && ending.code], ['refused', code], `${status}`)
      assert.match(
        'error' in ending ? ending.error : '',
        new RegExp(`answered ${status}: check the node's URL`),
      )
    }
  }
  await using node = await startRawNode((socket) => socket.end(rawAnswer('')))
  assert.deepEqual(await pull(node.url, { order }).ending, { kind: 'done' }, 'as Ollama answers')
})

test('a request is cut off when it is not wanted any more', async (t) => {
  const node = await aNode(t)
  node.control.blackhole()
  const stopping = new AbortController()
  const { ending } = pull(node.url, { signal: stopping.signal })
  await eventually(() => node.requests.length === 1, 'asked')
  stopping.abort()
  assert.equal((await ending).kind, 'broken')
  await eventually(() => node.requests[0]?.abortedAt !== null, 'closed')
})
