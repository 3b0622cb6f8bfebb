import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type ChatOptions, modelName } from './chat.ts'

/**
 * The node behind every contestant: as little of an Ollama as llamero needs to use it, so that the node is never what
 * limits a run. The request says how its answer comes: `num_predict` chunks, one every `chunk_ms`.
 * Usage: `node.ts PORT`.
 */
const port = Number(process.argv[2])

const date = '2026-01-01T00:00:00Z'
const model = { name: modelName, model: modelName, digest: 'ab'.repeat(32), size: 1, details: {} }
const inventory: Readonly<Record<string, object>> = {
  '/api/version': { version: '0.32.15' },
  '/api/tags': { models: [{ ...model, modified_at: date }] },
  '/api/ps': { models: [{ ...model, size_vram: 1, context_length: 4096, expires_at: date }] },
}

const head = { model: modelName, created_at: '2026-01-01T00:00:00.000000000Z' }
const counts = {
  done_reason: 'stop',
  total_duration: 1_234_567_890,
  load_duration: 12_345_678,
  prompt_eval_count: 64,
  prompt_eval_duration: 98_765_432,
  eval_count: 512,
  eval_duration: 1_098_765_432,
}
const message = (content: string) => ({ message: { role: 'assistant', content } })
/** About 120 bytes, as one token of a real answer is. */
const chunk = Buffer.from(`${JSON.stringify({ ...head, ...message(' token'), done: false })}\n`)
/** About 300 bytes. */
const whole = Buffer.from(JSON.stringify({ ...head, ...message('yes'), done: true, ...counts }))
const last = Buffer.from(`${JSON.stringify({ ...head, ...message(''), done: true, ...counts })}\n`)

const server = createServer({ noDelay: true }, (request, response) => {
  const known = inventory[request.url ?? '']
  if (known) sendWhole(response, Buffer.from(JSON.stringify(known)))
  else void answerChat(request, response)
})
// A contestant's pooled connection must not be closed under it between two rounds.
server.keepAliveTimeout = 0
server.listen(port, '127.0.0.1')

async function answerChat(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part as Buffer)
  const { stream, options } = JSON.parse(String(Buffer.concat(parts))) as {
    readonly stream: boolean
    readonly options?: ChatOptions
  }
  if (stream && options) sendStream(response, options)
  else sendWhole(response, whole)
}

function sendWhole(response: ServerResponse, body: Buffer): void {
  response.writeHead(200, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': body.length,
  })
  response.end(body)
}

function sendStream(response: ServerResponse, { num_predict, chunk_ms }: ChatOptions): void {
  let left = num_predict - 1
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.write(chunk)
  const timer = setInterval(() => {
    if (left-- > 0) response.write(chunk)
    else {
      clearInterval(timer)
      response.end(last)
    }
  }, chunk_ms)
  response.once('close', () => clearInterval(timer))
}
