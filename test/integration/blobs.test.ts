import assert from 'node:assert/strict'
import { createHash, hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { InstanceProcess, until } from '../support/processes.ts'

const token = 'llm_operator'
const auth = { authorization: `Bearer ${token}` }
const keyOf = (scopes: string[]) =>
  new Map([['k', apiKeySchema.parse({ hash: hashToken(token), scopes, tenant: 'ops' })]])
const gguf = Buffer.from('GGUF and some weights')
const digestOf = (bytes: Buffer) => `sha256:${hash('sha256', bytes, 'hex')}`

interface Sketch {
  readonly nodes?: number
  readonly copies?: number | 'all'
  readonly scopes?: string[]
}

/** A gateway over simulated nodes, for an operator. */
async function start({ nodes: count = 3, copies = 1, scopes = ['admin'] }: Sketch = {}) {
  const nodes = await Promise.all(
    Array.from({ length: count }, (_, n) =>
      SimulatedNode.start({ name: `n${n}`, models: [aModel({ name: 'm' })] }),
    ),
  )
  const gateway = await startGateway(
    aSnapshot({
      nodes: nodes.map(({ name, url }) => ({ name, url })),
      config: { management: { copies } },
      keys: keyOf(scopes),
    }),
    { loopback: false },
  )
  const call = async (base: string, method: string, digest: string, body?: Buffer | ReadableStream) => {
    const init = {
      method,
      headers: auth,
      ...(body && { body: body as Uint8Array<ArrayBuffer>, duplex: 'half' as const }),
    }
    const answer = await fetch(`${base}/api/blobs/${digest}`, init)
    return { status: answer.status, text: await answer.text() }
  }
  return {
    nodes,
    gateway,
    blob: (method: string, digest: string, body?: Buffer | ReadableStream) =>
      call(gateway.url, method, digest, body),
    /** Names of the nodes that have a blob. */
    holders: async (digest: string) => {
      const asked = nodes.map(async ({ name, url }) =>
        (await call(url, 'HEAD', digest)).status === 200 ? [name] : [],
      )
      return (await Promise.all(asked)).flat()
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const node of nodes) await node.stop()
    },
  }
}

suite('a blob', () => {
  test('is not there, is sent, is there, and is not sent again', async () => {
    await using house = await start()
    const digest = digestOf(gguf)
    assert.deepEqual(await house.blob('HEAD', digest), { status: 404, text: '' })
    assert.deepEqual(await house.blob('POST', digest, gguf), { status: 201, text: '' })
    assert.deepEqual(await house.blob('HEAD', digest), { status: 200, text: '' })
    assert.deepEqual(await house.blob('POST', digest, gguf), { status: 200, text: '' })
    assert.equal((await house.holders(digest)).length, 1)
  })

  test('goes where the others of its sender went, so that a model can be created of them', async () => {
    await using house = await start({ nodes: 5 })
    const blobs = Array.from({ length: 8 }, (_, n) => Buffer.from(`GGUF ${n}`))
    const homes = new Set<string>()
    for (const blob of blobs) {
      await house.blob('POST', digestOf(blob), blob)
      for (const home of await house.holders(digestOf(blob))) homes.add(home)
    }
    assert.equal(homes.size, 1)
  })

  test('goes to as many nodes as a new model does, in one pass', async () => {
    await using house = await start({ copies: 2 })
    const bytes = Buffer.alloc(3_000_000, 'GGUF')
    let pulled = 0
    const stream = new ReadableStream({
      pull(controller) {
        const piece = bytes.subarray(pulled, pulled + 100_000)
        pulled += piece.length
        if (piece.length > 0) controller.enqueue(piece)
        else controller.close()
      },
    })
    assert.equal((await house.blob('POST', digestOf(bytes), stream)).status, 201)
    assert.equal((await house.holders(digestOf(bytes))).length, 2)
    // One of them loses it: it is sent again, and the other one has it already.
    assert.equal((await house.blob('HEAD', digestOf(bytes))).status, 200)
  })

  test('with other bytes is refused like by Ollama, and so is an invalid digest', async () => {
    await using house = await start({ copies: 'all' })
    const wrong = await house.blob('POST', digestOf(Buffer.from('other')), gguf)
    assert.equal(wrong.status, 400)
    assert.match(wrong.text, /digest mismatch, expected .* got /)
    for (const method of ['HEAD', 'POST'])
      assert.equal((await house.blob(method, 'sha256:12', method === 'POST' ? gguf : undefined)).status, 400)
    assert.equal((await house.blob('POST', 'sha256:12', gguf)).text, '{"error":"invalid digest format"}')
  })

  test('that did not reach a node is answered with the name of that node; the others have it', async () => {
    await using house = await start({ copies: 'all' })
    const [dead] = house.nodes
    await dead?.control.refuse()
    const { status, text } = await house.blob('POST', digestOf(gguf), gguf)
    assert.equal(status, 502)
    assert.match(text, /the blob did not reach n0; send it again/)
    for (const node of house.nodes.slice(1))
      assert.equal((await fetch(`${node.url}/api/blobs/${digestOf(gguf)}`, { method: 'HEAD' })).status, 200)
  })

  test('is taken from operators only', async () => {
    await using house = await start({ scopes: ['inference'] })
    const { status, text } = await house.blob('POST', digestOf(gguf), gguf)
    assert.equal(status, 403)
    assert.match(text, /scope admin/)
  })
})

test('a model is created of 200 MB through an instance whose memory grows by less than 64 MiB', async () => {
  const node = await SimulatedNode.start({ name: 'a', models: [] })
  await using cleanup = new AsyncDisposableStack()
  cleanup.defer(() => node.stop())
  const instance = await InstanceProcess.start('blobs')
  cleanup.defer(() => instance.stop())
  await instance.cli('node', 'add', 'a', node.url)
  await instance.cli(
    'config',
    'set',
    'auth.addresses=[{"cidr":["127.0.0.1/32"],"scopes":["inference","admin"]}]',
  )
  await until(
    async () => ((await instance.admin('nodes'))['nodes'] as { health: string }[])[0]?.health === 'up',
    'the node is up',
    5000,
  )
  const send = async (mebibytes: number) => {
    const piece = Buffer.alloc(1024 * 1024, mebibytes)
    const pieces = [Buffer.from('GGUF'), ...Array.from({ length: mebibytes }, () => piece)]
    const sum = createHash('sha256')
    for (const each of pieces) sum.update(each)
    const digest = `sha256:${sum.digest('hex')}`
    const init = { method: 'POST', body: ReadableStream.from(pieces), duplex: 'half' as const }
    assert.equal((await fetch(`${instance.url}/api/blobs/${digest}`, init)).status, 201)
    return digest
  }
  // An instance that has been at work: until then its heap grows to its working size, whatever the work is.
  await send(64)
  const before = residentMiB(instance.pid)
  let peak = before
  const looking = setInterval(() => {
    peak = Math.max(peak, residentMiB(instance.pid))
  }, 10)
  cleanup.defer(() => clearInterval(looking))
  const name = await send(200)
  assert(peak - before < 64, `it grew by ${peak - before} MiB`)
  const created = await fetch(`${instance.url}/api/create`, {
    method: 'POST',
    body: JSON.stringify({ model: 'mine', files: { 'model.gguf': name } }),
  })
  assert.match(await created.text(), /"status":"success"/)
  const tags = (await (await fetch(`${node.url}/api/tags`)).json()) as { models: { name: string }[] }
  assert.deepEqual(
    tags.models.map((model) => model.name),
    ['mine:latest'],
  )
})

function residentMiB(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(line?.[1]) / 1024
}
