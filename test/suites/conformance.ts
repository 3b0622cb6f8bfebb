import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'

const quick = { loadMs: 20, promptTps: 10_000, decodeTps: 2000 }
/** What the script needs on every node. */
export const conformanceModels = [
  aModel({ ...quick, name: 'chatty:1b', capabilities: ['completion', 'tools', 'insert'] }),
  aModel({ ...quick, name: 'team/Thinker:2b', capabilities: ['completion', 'thinking'] }),
  aModel({ ...quick, name: 'embedder:latest', capabilities: ['embedding'], embedDim: 8 }),
]

const pulled = 'wanted:2b'
/** What it pulls. */
export const conformanceRegistry = [aModel({ ...quick, name: pulled, sizeMiB: 20 })]

interface Clients {
  readonly url: string
  readonly ollama: Ollama
  readonly openai: OpenAI
  readonly anthropic: Anthropic
}

type Step = readonly [name: string, run: (clients: Clients) => Promise<unknown>]

const messages = [{ role: 'user' as const, content: 'tell me something' }]
const system = { role: 'system' as const, content: 'be brief' }
const model = 'chatty:1b'
const weather = {
  type: 'function' as const,
  function: {
    name: 'weather',
    description: 'the weather of a city',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}
const callsTool = { x_fake: { toolCall: { name: 'weather', arguments: { city: 'Lima' } } } } as object

/** What the users of the three clients do, in an order in which each step finds what it needs. */
const steps: readonly Step[] = [
  // The habits of the ollama CLI and of pollers.
  ['heartbeat', ({ url }) => plain(url, 'HEAD', '/')],
  ['root', ({ url }) => plain(url, 'GET', '/')],
  ['version, head', ({ url }) => plain(url, 'HEAD', '/api/version')],
  ['wrong method', ({ url }) => plain(url, 'GET', '/api/show').then(({ status }) => status)],
  ['ollama version', ({ ollama }) => ollama.version()],
  ['ollama list', async ({ ollama }) => (await ollama.list()).models.sort(byName)],
  ['ollama show', ({ ollama }) => ollama.show({ model })],
  ['ollama show, otherwise spelled', ({ ollama }) => ollama.show({ model: 'TEAM/thinker:2B' })],
  ['ollama show, unknown', ({ ollama }) => ollama.show({ model: 'unknown' })],

  ['ollama chat', ({ ollama }) => ollama.chat({ model, messages: [system, ...messages] })],
  ['ollama chat, streamed', async ({ ollama }) => all(await ollama.chat({ model, messages, stream: true }))],
  ['ollama chat, otherwise spelled', ({ ollama }) => ollama.chat({ model: 'CHATTY:1b', messages })],
  [
    'ollama chat, with options',
    ({ ollama }) => ollama.chat({ model, messages, options: { num_predict: 3, seed: 7, temperature: 0 } }),
  ],
  ['ollama chat, JSON', ({ ollama }) => ollama.chat({ model, messages, format: 'json' })],
  [
    'ollama chat, with a tool',
    ({ ollama }) => ollama.chat({ model, messages, tools: [weather], options: callsTool }),
  ],
  ['ollama chat, thinking', ({ ollama }) => ollama.chat({ model: 'team/Thinker:2b', messages, think: true })],
  ['ollama chat, cannot think', ({ ollama }) => ollama.chat({ model, messages, think: true })],
  ['ollama chat, unknown', ({ ollama }) => ollama.chat({ model: 'unknown', messages })],
  ['ollama chat, no name', ({ ollama }) => ollama.chat({ model: '', messages }).catch(statusOf)],
  ['ollama chat, cannot', ({ ollama }) => ollama.chat({ model: 'embedder', messages })],
  ['ollama generate', ({ ollama }) => ollama.generate({ model, prompt: 'hello' })],
  ['ollama generate, fill', ({ ollama }) => ollama.generate({ model, prompt: 'a', suffix: 'z' })],
  [
    'ollama generate, streamed',
    async ({ ollama }) => all(await ollama.generate({ model, prompt: 'hello', stream: true })),
  ],
  ['ollama load', ({ ollama }) => ollama.generate({ model, prompt: '' })],
  ['ollama embed', ({ ollama }) => ollama.embed({ model: 'embedder', input: ['a', 'b'] })],
  ['ollama embeddings', ({ ollama }) => ollama.embeddings({ model: 'embedder', prompt: 'a' })],
  ['ollama embed, unknown', ({ ollama }) => ollama.embed({ model: 'unknown', input: 'a' })],
  ['ollama abort', ({ ollama }) => aborted(ollama)],

  [
    'openai models',
    async ({ openai }) => (await all(await openai.models.list())).map((each) => each.id).sort(),
  ],
  ['openai model', ({ openai }) => openai.models.retrieve(model)],
  ['openai model, unknown', ({ openai }) => openai.models.retrieve('unknown')],
  ['openai chat', ({ openai }) => openai.chat.completions.create({ model, messages })],
  [
    'openai chat, streamed',
    async ({ openai }) => all(await openai.chat.completions.create({ model, messages, stream: true })),
  ],
  [
    'openai chat, streamed with usage',
    async ({ openai }) =>
      all(
        await openai.chat.completions.create({
          model,
          messages,
          stream: true,
          stream_options: { include_usage: true },
          max_tokens: 4,
        }),
      ),
  ],
  ['openai chat, unknown', ({ openai }) => openai.chat.completions.create({ model: 'unknown', messages })],
  ['openai chat, empty', ({ openai }) => openai.chat.completions.create({ model, messages: [] })],
  ['openai completion', ({ openai }) => openai.completions.create({ model, prompt: 'hello' })],
  [
    'openai completion, streamed',
    async ({ openai }) => all(await openai.completions.create({ model, prompt: 'hello', stream: true })),
  ],
  ['openai embeddings', ({ openai }) => openai.embeddings.create({ model: 'embedder', input: ['a', 'b'] })],
  ['openai embeddings, unknown', ({ openai }) => openai.embeddings.create({ model: 'unknown', input: 'a' })],
  ['openai response', ({ openai }) => openai.responses.create({ model, input: 'tell me something' })],
  [
    'openai response, streamed',
    async ({ openai }) => all(await openai.responses.create({ model, input: 'tell me', stream: true })),
  ],

  ['anthropic message', ({ anthropic }) => anthropic.messages.create({ model, messages, max_tokens: 64 })],
  [
    'anthropic message, streamed',
    async ({ anthropic }) =>
      all(
        await anthropic.messages.create({
          model,
          messages,
          max_tokens: 64,
          stream: true,
          system: 'be brief',
        }),
      ),
  ],
  [
    'anthropic message, unknown',
    ({ anthropic }) => anthropic.messages.create({ model: 'unknown', messages, max_tokens: 8 }),
  ],

  // Each change is seen by the very next request.
  ['ollama pull, streamed', async ({ ollama }) => said(await ollama.pull({ model: pulled, stream: true }))],
  ['ollama chat, pulled', ({ ollama }) => ollama.chat({ model: pulled, messages })],
  ['ollama pull, there already', ({ ollama }) => ollama.pull({ model: pulled })],
  ['ollama show, pulled', ({ ollama }) => ollama.show({ model: pulled })],
  ['ollama pull, unknown', ({ ollama }) => ollama.pull({ model: 'unknown' })],
  [
    'ollama pull, unknown and streamed',
    async ({ ollama }) => said(await ollama.pull({ model: 'unknown', stream: true })),
  ],
  ['ollama pull, no name', ({ ollama }) => ollama.pull({ model: '' }).catch(statusOf)],
  ['ollama copy', ({ ollama }) => ollama.copy({ source: model, destination: 'team/copied' })],
  ['ollama show, copied', ({ ollama }) => ollama.show({ model: 'team/copied' })],
  ['ollama copy, unknown', ({ ollama }) => ollama.copy({ source: 'unknown', destination: 'n' })],
  ['ollama copy, invalid', ({ ollama }) => ollama.copy({ source: model, destination: 'a b' })],
  [
    'ollama create, streamed',
    async ({ ollama }) =>
      // What a node says of its layers is over before it is heard of elsewhere.
      (await said(await ollama.create({ model: 'made', from: model, system: 'be brief', stream: true }))).at(
        -1,
      ),
  ],
  ['ollama show, created', ({ ollama }) => ollama.show({ model: 'made' })],
  ['ollama create, there already', ({ ollama }) => ollama.create({ model: 'made', from: model })],
  ['ollama create, of nothing', ({ ollama }) => ollama.create({ model: 'made', from: '' })],
  ['ollama push', async ({ ollama }) => said(await ollama.push({ model: pulled, stream: true }))],
  ['ollama list, changed', async ({ ollama }) => (await ollama.list()).models.sort(byName)],
  ['ollama delete', ({ ollama }) => ollama.delete({ model: 'Team/Copied' })],
  ['ollama chat, deleted', ({ ollama }) => ollama.chat({ model: 'team/copied', messages })],
  ['ollama delete, again', ({ ollama }) => ollama.delete({ model: 'team/copied' })],
  ['ollama delete, made', ({ ollama }) => ollama.delete({ model: 'made' })],
  ['ollama delete, pulled', ({ ollama }) => ollama.delete({ model: pulled })],
  ['ollama list, as before', async ({ ollama }) => (await ollama.list()).models.sort(byName)],
]

/** Runs every step and tells, by its name, what came of it: the answer or the client's own error, ids and times aside. */
export async function conformance(url: string): Promise<Map<string, unknown>> {
  const sdk = { apiKey: 'ollama', maxRetries: 0 }
  const clients: Clients = {
    url,
    ollama: new Ollama({ host: url }),
    openai: new OpenAI({ baseURL: `${url}/v1`, ...sdk }),
    anthropic: new Anthropic({ baseURL: url, ...sdk }),
  }
  const results = new Map<string, unknown>()
  for (const [name, run] of steps) results.set(name, comparable(await run(clients).catch(errorOf)))
  return results
}

async function plain(url: string, method: string, path: string) {
  const answer = await fetch(url + path, { method })
  return { status: answer.status, type: answer.headers.get('content-type'), body: await answer.text() }
}

async function all<T>(parts: AsyncIterable<T>): Promise<T[]> {
  const seen: T[] = []
  for await (const part of parts) seen.push(part)
  return seen
}

/** The different things a progress stream says, in order: how often depends on how long it takes. */
async function said(progress: AsyncIterable<{ readonly status: string }>): Promise<string[]> {
  return [...new Set((await all(progress)).map(({ status }) => status))]
}

async function aborted(ollama: Ollama): Promise<string> {
  const stream = await ollama.chat({ model, messages, stream: true })
  try {
    for await (const _part of stream) stream.abort()
    return 'ended'
  } catch (error) {
    return (error as Error).name
  }
}

/** Of the same moment, in one order or another. */
function byName(a: { name: string }, b: { name: string }): number {
  return a.name.localeCompare(b.name)
}

/** What a client throws, as its user sees it. */
function errorOf(error: unknown) {
  const { message, status, status_code, code, type } = error as Error & Record<string, unknown>
  const said = message
    .replace(/"request_id":"[^"]*"/, '"request_id":"…"')
    // Of several nodes it matters which.
    .replace(/^\w+ failed on [\w, -]+: /, '')
  return {
    thrown: (error as Error).constructor.name,
    message: said,
    status: status ?? status_code,
    code,
    type,
  }
}

function statusOf(error: unknown) {
  return (error as { status_code?: number }).status_code
}

/** Fields that differ from one call to the next on a single Ollama as well. */
const volatile =
  /^(id|item_id|call_id|request_id|_request_id|created|created_at|completed_at|modified_at|expires_at|.*_duration)$/

/** What clients of one Ollama do not know of. */
const ours = 'llamero'

function comparable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(comparable)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, each]) =>
      name === ours ? [] : [[name, volatile.test(name) && each !== null ? typeof each : comparable(each)]],
    ),
  )
}
