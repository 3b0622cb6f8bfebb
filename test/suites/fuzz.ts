import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { type HostileAnswer, hostileAnswer, hostileCall, type Pieces } from '../support/fuzz-input.ts'
import { assertOurRequests, readAnswers } from '../support/http-bytes.ts'
import { eventually } from '../support/wire.ts'
import { post, startWireGateway } from '../support/wire-gateway.ts'

/** Milliseconds. A caller that sent half a request is waited for no longer. */
const quietMs = 60
/** Every answer of a node ends within this time, even of a faulty node. */
const answerMs = 5000
/** Quick, but not so quick that a busy machine fails a healthy answer. */
const timeouts = {
  connect: '1s',
  first_token: '800ms',
  between_tokens: '800ms',
  idle_write: '800ms',
  request: '3s',
}

interface Campaign {
  readonly ms: number
  readonly seed: number
}

/** Hostile callers before a healthy node; resolves to the number of connections. */
export async function fuzzCallers({ ms, seed }: Campaign): Promise<number> {
  const descriptors = countDescriptors()
  let count = 0
  {
    await using wire = await startWireGateway({ config: { limits: { body_bytes: 65_536 } } })
    await inBatches(hostileCall, { ms, seed }, async (calls) => {
      await Promise.all(
        calls.map(async (pieces) => {
          const received = await exchange(wire.gateway.port, pieces, quietMs)
          readAnswers(received, Buffer.concat(pieces).includes('HEAD'))
        }),
      )
      count += calls.length
      for (const bytes of wire.node.received) assertOurRequests(bytes)
      await wire.assertWell()
      wire.gateway.lines.length = 0
    })
  }
  await eventually(() => countDescriptors() <= descriptors + 2, 'sockets are closed', 10_000)
  return count
}

/** Honest callers before a hostile node; resolves to the number of requests. */
export async function fuzzAnswers({ ms, seed }: Campaign): Promise<number> {
  const descriptors = countDescriptors()
  let count = 0
  await inBatches(hostileAnswer, { ms, seed }, async (answers) => {
    // Answered when all have come: one that says "busy" keeps later ones away from the node.
    const asked: (() => void)[] = []
    // A gateway for each batch: its breaker must not learn.
    await using wire = await startWireGateway({
      slots: answers.length,
      config: { timeouts, breaker: { failures: 1000 } },
      serve: (socket, text) => {
        for (const [, n] of text.matchAll(/"n":(\d+)/g))
          asked.push(() => void perform(socket, answers[Number(n)]))
        if (asked.length === answers.length) for (const answer of asked) answer()
      },
    })
    await Promise.all(answers.map((answer, n) => askFor(answer, n, wire.gateway.port)))
    count += answers.length
    for (const bytes of wire.node.received) assertOurRequests(bytes)
    await wire.assertWell()
  })
  await eventually(() => countDescriptors() <= descriptors + 2, 'sockets are closed', 10_000)
  return count
}

async function askFor({ isWhole, pieces }: HostileAnswer, n: number, port: number): Promise<void> {
  const request = post('/api/chat', `{"model":"m","n":${n}}`, 'Connection: close\r\n')
  const answers = readAnswers(await exchange(port, [Buffer.from(request)], answerMs))
  // None at all is an abort, which is as honest.
  assert(answers.length <= 1, 'the caller got several answers')
  if (isWhole === undefined) return
  const looksWhole = answers.some((answer) => answer.status === 200 && answer.isWhole)
  assert.equal(looksWhole, isWhole, `${answers[0]?.head} for ${Buffer.concat([...pieces]).toString()}`)
}

async function perform(socket: Socket, answer: HostileAnswer | undefined): Promise<void> {
  for (const piece of answer?.pieces ?? []) {
    socket.write(piece)
    await sleep(1)
  }
  if (answer?.ending === 'close') socket.end()
  if (answer?.ending === 'reset') socket.resetAndDestroy()
}

/** Draws batches of inputs for as long as there is time. */
async function inBatches<T>(
  input: fc.Arbitrary<T>,
  { ms, seed }: Campaign,
  run: (batch: T[]) => Promise<void>,
): Promise<void> {
  const batch = fc.array(input, { minLength: 1, maxLength: 40, size: 'max' })
  await fc.assert(fc.asyncProperty(batch, run), {
    seed,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: ms,
  })
}

/** Sends the pieces; resolves to what came back when the connection closes or is quiet for so long. */
function exchange(port: number, pieces: Pieces, quiet: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  const socket = connect(port, '127.0.0.1')
  let received = ''
  socket.on('error', () => {})
  socket.setEncoding('latin1').on('data', (text) => {
    received += text
  })
  socket.on('close', () => resolve(received))
  socket.setTimeout(quiet, () => socket.destroy())
  void (async () => {
    for (const piece of pieces) {
      if (socket.writable) socket.write(piece)
      await sleep(1)
    }
  })()
  return promise
}

function countDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}
