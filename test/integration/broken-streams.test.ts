import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import type { FaultOptions, Faults } from '../../lib/simulation/http/faults.ts'
import { type Instance, startInstance } from '../support/instance.ts'

// The promise of issue 4 about the ends of answers, as the real clients see it: a fault that can be healed is not
// seen at all, any other is seen as an error of the client's own class, and never as a whole answer.

const text = 'one two three four'
const model = 'm:latest'
const models = [aModel({ name: model, loadMs: 0, promptTps: 0, decodeTps: 0, text })]
const messages = [{ role: 'user' as const, content: 'count' }]
const silenceMs = 1500
const hour = 3_600_000
/** Retries have a budget, at least three a second: the table shall not exhaust it. */
const pauseMs = 350
const config = {
  timeouts: {
    first_token: `${silenceMs}ms`,
    whole_answer: `${silenceMs}ms`,
    between_tokens: `${silenceMs}ms`,
  },
  // The breaker is not what is tried here: it opens for a refused connection only, and not for long.
  breaker: { failures: 1000, reset: '100ms' },
}

/** How one client asks one API, and what its errors are. */
interface Voice {
  readonly name: string
  readonly path: string
  /** What the answers say, put together. */
  whole(url: string, fetch: Fetch): Promise<string>
  streamed(url: string, fetch: Fetch): Promise<string>
  /** Whether it is the client's own error for an answer that ends with one; a connection's is not. */
  isOwnError(error: unknown): boolean
  /** An error in the stream, as this API words it. */
  readonly errorLine: string
  readonly streamType: string
}

type Fetch = typeof globalThis.fetch

/** It has a class for refusals only: an error within a stream is a plain Error, and so is its surprise at a missing end. */
function isOllamaError(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof TypeError) return false
  return !error.message.startsWith('Did not receive done')
}

const ndjson = { errorLine: '{"error":"simulated"}\n', streamType: 'application/x-ndjson' }
const eventStream = 'text/event-stream'

const ollamaChat: Voice = {
  name: 'ollama chat',
  path: '/api/chat',
  ...ndjson,
  isOwnError: isOllamaError,
  async whole(host, fetch) {
    const { message } = await new Ollama({ host, fetch }).chat({ model, messages })
    return message.content
  },
  async streamed(host, fetch) {
    let said = ''
    for await (const { message } of await new Ollama({ host, fetch }).chat({ model, messages, stream: true }))
      said += message.content
    return said
  },
}

const ollamaGenerate: Voice = {
  name: 'ollama generate',
  path: '/api/generate',
  ...ndjson,
  isOwnError: isOllamaError,
  async whole(host, fetch) {
    return (await new Ollama({ host, fetch }).generate({ model, prompt: 'count' })).response ?? ''
  },
  async streamed(host, fetch) {
    let said = ''
    const ollama = new Ollama({ host, fetch })
    for await (const { response } of await ollama.generate({ model, prompt: 'count', stream: true }))
      said += response
    return said
  },
}

const openaiChat: Voice = {
  name: 'openai chat',
  path: '/v1/chat/completions',
  errorLine: 'data: {"error":{"message":"simulated","type":"api_error","param":null,"code":null}}\n\n',
  streamType: eventStream,
  isOwnError: (error) => error instanceof OpenAI.APIError && !(error instanceof OpenAI.APIConnectionError),
  async whole(url, fetch) {
    const { choices } = await openaiClient(url, fetch).chat.completions.create({ model, messages })
    return choices[0]?.message.content ?? ''
  },
  async streamed(url, fetch) {
    let said = ''
    const asked = { model, messages, stream: true as const }
    for await (const { choices } of await openaiClient(url, fetch).chat.completions.create(asked))
      said += choices[0]?.delta.content ?? ''
    return said
  },
}

const anthropicMessages: Voice = {
  name: 'anthropic messages',
  path: '/v1/messages',
  errorLine: 'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"simulated"}}\n\n',
  streamType: eventStream,
  isOwnError: (error) =>
    error instanceof Anthropic.APIError && !(error instanceof Anthropic.APIConnectionError),
  async whole(url, fetch) {
    const { content } = await anthropicClient(url, fetch).messages.create({ model, messages, max_tokens: 9 })
    return content.map((block) => (block.type === 'text' ? block.text : '')).join('')
  },
  async streamed(url, fetch) {
    let said = ''
    const asked = { model, messages, max_tokens: 9, stream: true as const }
    for await (const event of await anthropicClient(url, fetch).messages.create(asked))
      if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') said += event.delta.text
    return said
  },
}

function openaiClient(url: string, fetch: Fetch, maxRetries = 0): OpenAI {
  return new OpenAI({ baseURL: `${url}/v1`, apiKey: 'unused', maxRetries, fetch })
}

function anthropicClient(url: string, fetch: Fetch, maxRetries = 0): Anthropic {
  return new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries, fetch })
}

type Fault = (node: Faults, voice: Voice, options: FaultOptions) => void
type Row = readonly [name: string, fault: Fault]

const killed = 'llama-server process has terminated: signal: killed'

/** What may befall any answer before its first byte: another node gives it. */
const beforeTheFirstByte: readonly Row[] = [
  ['reset before the first byte', (node, _, options) => node.resetAfter(0, options)],
  ['reset after its headers', (node, _, options) => node.dropAfterHeaders(options)],
  ['stalled before the first byte', (node, _, options) => node.slowFirstByte(hour, options)],
  ['an error status', (node, _, options) => node.errorLine(0, killed, options)],
]

const healedStreams: readonly Row[] = [
  ...beforeTheFirstByte,
  [
    'an error as its first line',
    (node, { errorLine, streamType }, options) =>
      node.status(200, errorLine, { 'Content-Type': streamType }, options),
  ],
]

/** Nothing is sent before the end of a whole answer, so that all of these can be healed as well. */
const healedWholes: readonly Row[] = [
  ...beforeTheFirstByte,
  ['reset within its body', (node, _, options) => node.cutInChunk(0, options)],
  ['stalled within its body', (node, _, options) => node.drip(20, hour, options)],
  ['an error after two tokens', (node, _, options) => node.errorLine(2, killed, options)],
  ['an empty body', (node, _, options) => node.truncate(0, options)],
  ['half a body, ended in good order', (node, _, options) => node.status(200, '{"model":"m', {}, options)],
  ['an error under status 200', (node, _, options) => node.status(200, { error: killed }, {}, options)],
]

const brokenStreams: readonly Row[] = [
  ['reset after two chunks', (node, _, options) => node.resetAfter(2, options)],
  ['reset within its third chunk', (node, _, options) => node.cutInChunk(2, options)],
  ['stalled after two chunks', (node, _, options) => node.stallAfter(2, hour, options)],
  ['ended in good order after two chunks', (node, _, options) => node.truncate(2, options)],
  ['an error of its runner after two chunks', (node, _, options) => node.errorLine(2, killed, options)],
]

const unterminated: Row = ['without its terminator', (node, _, options) => node.dropTerminator(options)]

/** The voices are tried side by side, each with an instance of its own: most of the time is spent waiting. */
suite('an answer that was', { concurrency: true }, () => {
  for (const voice of [ollamaChat, ollamaGenerate, openaiChat, anthropicMessages]) {
    suite(`asked for by ${voice.name}:`, { concurrency: false }, () => tableOf(voice))
  }
})

function tableOf(voice: Voice): void {
  let instance: Instance
  before(async () => {
    instance = await startInstance({ nodes: 2, models, config })
  })
  after(() => instance[Symbol.asyncDispose]())

  /** Strikes the one node that is asked first. */
  const arm = async (fault: Fault): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    const times = { left: 1 }
    for (const { control } of instance.nodes) {
      control.clear()
      fault(control, voice, { match: { path: voice.path }, times })
    }
  }

  for (const kind of ['streamed', 'whole'] as const) {
    for (const [name, fault] of kind === 'streamed' ? healedStreams : healedWholes) {
      test(`${kind}, ${name}: healed by the other node`, async () => {
        await arm(fault)
        let attempts = 0
        const noted = noting((count) => {
          attempts = count
        })
        assert.equal(await voice[kind](instance.url, noted), text)
        // Reset on a socket that was used before, the request is silently sent again on another, to the same node.
        if (!name.startsWith('reset before')) assert.equal(attempts, 2)
      })
    }

    test(`${kind}, refused: healed by the other node`, async () => {
      // Its breaker stays open: a node that refuses connections may be tried by a request each time that it half-opens.
      const breaker = { ...config.breaker, reset: '1m', max_reset: '1m' }
      await using fresh = await startInstance({ nodes: 2, slots: 1, models, config: { ...config, breaker } })
      // Where the model is in memory is where it will be asked for.
      let loaded = 0
      await voice[kind](fresh.url, async (...request) => {
        const response = await fetch(...request)
        loaded = Number(response.headers.get('x-llamero-node')?.replace('node-', ''))
        return response
      })
      await fresh.nodes[loaded]?.control.refuse()
      let most = 0
      const answers = Array.from({ length: 4 }, () =>
        voice[kind](
          fresh.url,
          noting((attempts) => {
            most = Math.max(most, attempts)
          }),
        ),
      )
      assert.deepEqual(await Promise.all(answers), Array(4).fill(text))
      assert.equal(most, 2, 'both nodes were tried')
    })

    test(`${kind}, failed by every node: an error of the client's own`, async () => {
      await arm(() => {})
      for (const { control } of instance.nodes) control.resetAfter(0, { match: { path: voice.path } })
      await assert.rejects(voice[kind](instance.url, fetch), voice.isOwnError)
    })
  }

  const isCompleted = voice === openaiChat
  for (const [name, fault] of isCompleted ? brokenStreams : [...brokenStreams, unterminated]) {
    test(`streamed, ${name}: an error of the client's own`, async () => {
      await arm(fault)
      await assert.rejects(voice.streamed(instance.url, fetch), voice.isOwnError)
    })
  }

  if (isCompleted) {
    test('streamed, whole but for [DONE]: completed with it', async () => {
      await arm(unterminated[1])
      const body = JSON.stringify({ model, messages, stream: true })
      const answer = await fetch(instance.url + voice.path, { method: 'POST', body })
      assert.match(await answer.text(), /"finish_reason":"stop"\}\]\}\n\ndata: \[DONE\]\n\n$/)
    })
  }

  if (voice === ollamaChat) {
    test('streamed, with a line that is no JSON: passed on byte by byte', async () => {
      await arm((node, _, options) => node.garbageLine(2, options))
      const body = JSON.stringify({ model, messages })
      const answer = await fetch(instance.url + voice.path, { method: 'POST', body })
      const lines = (await answer.text()).split('\n')
      assert.equal(lines[2], '{"model":"simul')
      assert.match(lines.at(-2) ?? '', /"done":true/)
    })
  }
}

/** Tells how many nodes each answer took. */
function noting(note: (attempts: number) => void): Fetch {
  return async (...request) => {
    const response = await fetch(...request)
    note(Number(response.headers.get('x-llamero-attempts')))
    return response
  }
}

suite('a client that retries waits as long as it is told:', () => {
  let instance: Instance
  before(async () => {
    instance = await startInstance({ nodes: 2, models, config })
  })
  after(() => instance[Symbol.asyncDispose]())

  const asked: Readonly<Record<string, (fetch: Fetch) => Promise<unknown>>> = {
    openai: (fetch) => openaiClient(instance.url, fetch, 1).chat.completions.create({ model, messages }),
    anthropic: (fetch) =>
      anthropicClient(instance.url, fetch, 1).messages.create({ model, messages, max_tokens: 9 }),
  }
  for (const [client, ask] of Object.entries(asked)) {
    test(client, async () => {
      for (const { control } of instance.nodes)
        control.status(503, undefined, { 'Retry-After': '1' }, { match: { method: 'POST' }, times: 1 })
      const times: number[] = []
      await ask((...request) => {
        times.push(performance.now())
        return fetch(...request)
      })
      const [first = 0, second = 0] = times
      assert.equal(times.length, 2)
      // Left to itself it would wait half a second at most.
      assert.ok(second - first >= 950, `it waited ${Math.round(second - first)} ms`)
    })
  }
})
