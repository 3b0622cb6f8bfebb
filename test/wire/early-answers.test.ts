import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import type { Socket } from 'node:net'
import { suite, test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { type RawNode, rawAnswer, startRawNode } from '../support/wire.ts'

// A node may respond before it has read the body, and close: a write then meets a closed connection. The response
// counts, not the failed write.

const token = 'llm_operator'
const keys = new Map([
  ['k', apiKeySchema.parse({ hash: hashToken(token), scopes: ['admin', 'inference'], tenant: 'ops' })],
])
const body = Buffer.alloc(4_000_000, 'x')
const rounds = 6

/** Responds to the bytes so far, and closes with a reset, since the rest is not read. */
function answerEarly(socket: Socket, answer: string): void {
  socket.pause()
  socket.write(answer, () => socket.destroy())
}

async function arrange(nodes: readonly RawNode[]) {
  const sketches = nodes.map(({ url }, n) => ({
    name: `n${n}`,
    url,
    loaded: ['m:latest'],
    capabilities: ['completion', 'audio'],
  }))
  const config = { management: { copies: 'all' }, limits: { body_bytes: 64 * 1024 * 1024 } }
  const gateway = await startGateway(aSnapshot({ nodes: sketches, keys, config }), { loopback: false })
  return {
    gateway,
    send: async (path: string, payload: Buffer | string, headers: Record<string, string> = {}) => {
      const answer = await fetch(`${gateway.url}${path}`, {
        method: 'POST',
        body: payload as Uint8Array<ArrayBuffer>,
        headers: { authorization: `Bearer ${token}`, ...headers },
      })
      return { status: answer.status, text: await answer.text() }
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const node of nodes) await node[Symbol.asyncDispose]()
    },
  }
}

const blobPath = `/api/blobs/sha256:${hash('sha256', body, 'hex')}`
const had = rawAnswer('', { extra: 'Connection: close\r\n' })

suite('an answer that comes before the upload is read', () => {
  test('of a node that has the blob, as Ollama gives it, is 200 (363)', async () => {
    const node = await startRawNode((socket, bytes) => {
      if (bytes.startsWith('POST')) answerEarly(socket, had)
    })
    await using fleet = await arrange([node])
    for (let n = 0; n < rounds; n++) assert.equal((await fleet.send(blobPath, body)).status, 200)
    assert(node.received.join('').length < 10_000, 'the blob was not even sent')
  })

  test('of a node that asked for the blob first is 200 as well (363)', async () => {
    const node = await startRawNode((socket, bytes, nth) => {
      if (bytes.startsWith('HEAD')) socket.end(had)
      else if (nth === 0) socket.write('HTTP/1.1 100 Continue\r\n\r\n')
      else if (nth === 1) answerEarly(socket, had)
    })
    await using fleet = await arrange([node])
    for (let n = 0; n < rounds; n++) assert.equal((await fleet.send(blobPath, body)).status, 200)
  })

  test('of one node that has the blob does not stop the upload to others (363)', async () => {
    const holder = await startRawNode((socket, bytes) => {
      if (bytes.startsWith('POST')) answerEarly(socket, had)
    })
    let stored = 0
    const taker = await startRawNode((socket, bytes, nth) => {
      if (nth === 0) socket.write('HTTP/1.1 100 Continue\r\n\r\n')
      else stored += bytes.length
      if (stored >= body.length) socket.write(rawAnswer('', { status: '201 Created' }))
    })
    await using fleet = await arrange([holder, taker])
    assert.equal((await fleet.send(blobPath, body)).status, 201)
    assert.equal(stored, body.length)
  })

  test('of a node that refuses a form is passed on (363)', async () => {
    const said = '{"error":"invalid multipart form"}'
    const node = await startRawNode((socket, bytes, nth) => {
      // The response that a failed write lost is asked for again, before the body is written.
      if (nth === 1 || bytes.includes('100-continue'))
        answerEarly(socket, rawAnswer(said, { status: '400 Bad Request' }))
    })
    await using fleet = await arrange([node])
    const type = { 'content-type': 'multipart/form-data; boundary=b' }
    const part = (name: string, value: string) =>
      `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
    const form = `${part('model', 'm')}${part('file', 'x'.repeat(4_000_000))}--b--\r\n`
    for (let n = 0; n < rounds; n++) {
      const { status, text } = await fleet.send('/v1/audio/transcriptions', form, type)
      assert.equal(status, 400, text)
      assert.match(text, /invalid multipart form/)
    }
  })

  test('of a node that refuses a large chat is passed on (363)', async () => {
    const said = '{"error":"invalid image"}'
    const node = await startRawNode((socket, _bytes, nth) => {
      if (nth === 0) answerEarly(socket, rawAnswer(said, { status: '400 Bad Request' }))
    })
    await using fleet = await arrange([node])
    const chat = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'x'.repeat(8_000_000) }] })
    for (let n = 0; n < rounds; n++) {
      const { status, text } = await fleet.send('/api/chat', chat)
      assert.equal(status, 400, text)
    }
  })
})
