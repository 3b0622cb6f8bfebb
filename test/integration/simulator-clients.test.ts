import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI, { APIError } from 'openai'
import { aModel, quickstartModels } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'

const weather = { name: 'weather', arguments: { city: 'Bern' } }
const fast = { loadMs: 1, promptTps: 0, decodeTps: 0 }
const models = [
  aModel({ name: 'talker', ...fast, text: 'once upon a time' }),
  aModel({ name: 'caller', ...fast, sizeMiB: 10, toolCall: weather }),
  aModel({ name: 'slow', ...fast, sizeMiB: 20, decodeTps: 20 }),
  aModel({ name: 'thinker', ...fast, sizeMiB: 30, thinkTokens: 3, capabilities: ['completion', 'thinking'] }),
  aModel({ name: 'vectors', ...fast, sizeMiB: 40, embedDim: 16, capabilities: ['embedding'] }),
  aModel({ name: 'ears', ...fast, sizeMiB: 50, text: 'heard', capabilities: ['completion', 'audio'] }),
]
const registry = [aModel({ name: 'pulled', ...fast, sizeMiB: 60 })]
const messages = [{ role: 'user' as const, content: 'tell me' }]

let node: SimulatedNode
let ollama: Ollama
let openai: OpenAI
let anthropic: Anthropic

before(async () => {
  node = await SimulatedNode.start({ name: 'clients', models, registry, netMiBps: 1000, maxLoadedModels: 10 })
  ollama = new Ollama({ host: node.url })
  openai = new OpenAI({ baseURL: `${node.url}/v1`, apiKey: 'unused', maxRetries: 0 })
  anthropic = new Anthropic({ baseURL: node.url, apiKey: 'unused', maxRetries: 0 })
})

after(() => node.stop())

/** Resolves when the node has seen `count` clients leave. */
async function aborts(count: number): Promise<void> {
  while (node.stats().aborted < count) await new Promise((resolve) => setImmediate(resolve))
}

test('ollama: list, show, version and ps', async () => {
  const { models: listed } = await ollama.list()
  assert.deepEqual(
    listed.map(({ name, details }) => [name, details.format]),
    models.map(({ name }) => [name, 'simulated']),
  )
  assert.equal((await ollama.show({ model: 'talker' })).capabilities[0], 'completion')
  assert.equal((await ollama.version()).version, '0.32.15')
  await ollama.generate({ model: 'talker', prompt: '', keep_alive: '1h' })
  const { models: loaded } = await ollama.ps()
  assert.deepEqual(
    loaded.map(({ name }) => name),
    ['talker:latest'],
  )
})

test('ollama: chat and generate, whole and streamed', async () => {
  const whole = await ollama.chat({ model: 'talker', messages })
  assert.equal(whole.message.content, 'once upon a time')
  assert.equal(whole.done_reason, 'stop')
  let text = ''
  for await (const part of await ollama.chat({ model: 'talker', messages, stream: true }))
    text += part.message.content
  for await (const part of await ollama.generate({ model: 'talker', prompt: 'p', stream: true }))
    text += part.response
  assert.equal(text, 'once upon a timeonce upon a time')
})

test('ollama: thinking, tools and embeddings', async () => {
  const thought = await ollama.chat({ model: 'thinker', messages, think: true })
  assert.equal(thought.message.thinking?.trim().split(' ').length, 3)
  const tool = {
    type: 'function',
    function: { name: 'weather', description: '', parameters: { type: 'object' } },
  }
  const { message } = await ollama.chat({ model: 'caller', messages, tools: [tool] })
  assert.deepEqual(message.tool_calls?.[0]?.function, { index: 0, ...weather })
  const { embeddings } = await ollama.embed({ model: 'vectors', input: ['a', 'b'] })
  assert.deepEqual(
    embeddings.map((vector) => vector.length),
    [16, 16],
  )
  assert.deepEqual((await ollama.embeddings({ model: 'vectors', prompt: 'a' })).embedding, embeddings[0])
})

test('ollama: errors before and in a stream', async () => {
  await assert.rejects(ollama.chat({ model: 'absent', messages }), {
    name: 'ResponseError',
    status_code: 404,
    message: "model 'absent' not found",
  })
  const options = { x_fake: { failAt: 2 } } as object
  const stream = await ollama.chat({ model: 'talker', messages, stream: true, options })
  const parts: string[] = []
  await assert.rejects(async () => {
    for await (const part of stream) parts.push(part.message.content)
  }, /an error was encountered while running the model/)
  assert.deepEqual(parts, ['once ', 'upon '])
})

test('ollama: abort closes the request on the node', async () => {
  const before = node.stats().aborted
  const stream = await ollama.chat({ model: 'slow', messages, stream: true })
  await assert.rejects(
    async () => {
      for await (const _ of stream) stream.abort()
    },
    { name: 'AbortError' },
  )
  await aborts(before + 1)
  assert.equal(node.stats().models['slow:latest']?.inFlight, 0)
})

test('ollama: pull, create, copy and delete', async () => {
  const completed: number[] = []
  for await (const part of await ollama.pull({ model: 'pulled', stream: true }))
    if (part.completed) completed.push(part.completed)
  assert.ok(completed.length > 1)
  await assert.rejects(
    async () => {
      for await (const _ of await ollama.pull({ model: 'absent', stream: true }));
    },
    { message: 'pull model manifest: file does not exist' },
  )
  assert.equal((await ollama.create({ model: 'own', from: 'pulled', system: 'Hi.' })).status, 'success')
  assert.equal((await ollama.copy({ source: 'own', destination: 'twin' })).status, 'success')
  assert.equal((await ollama.push({ model: 'twin' })).status, 'success')
  for (const model of ['pulled', 'own', 'twin']) await ollama.delete({ model })
  await assert.rejects(ollama.delete({ model: 'twin' }), {
    status_code: 404,
    message: "model 'twin' not found",
  })
  assert.equal((await ollama.list()).models.length, models.length)
})

test('openai: one model, and a transcription', async () => {
  assert.equal((await openai.models.retrieve('talker')).object, 'model')
  await assert.rejects(openai.models.retrieve('absent'), { status: 404 })
  const file = new File(['RIFF'], 'a.wav')
  assert.equal((await openai.audio.transcriptions.create({ model: 'ears', file })).text, 'heard')
})

test('openai: models, chat, streamed chat with usage, completions', async () => {
  assert.deepEqual(
    (await openai.models.list()).data.map(({ id }) => id),
    models.map(({ name }) => name),
  )
  const whole = await openai.chat.completions.create({ model: 'talker', messages, max_tokens: 2 })
  assert.deepEqual(
    [whole.choices[0]?.message.content, whole.choices[0]?.finish_reason],
    ['once upon ', 'length'],
  )
  let text = ''
  let tokens: number | undefined
  const stream = await openai.chat.completions.create({
    model: 'talker',
    messages,
    stream: true,
    stream_options: { include_usage: true },
  })
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? ''
    tokens = chunk.usage?.completion_tokens ?? tokens
  }
  assert.deepEqual([text, tokens], ['once upon a time', 4])
  const completion = await openai.completions.create({ model: 'talker', prompt: 'p' })
  assert.equal(completion.choices[0]?.text, 'once upon a time')
})

test('openai: tools and embeddings, which it asks for in base64', async () => {
  const tools = [{ type: 'function' as const, function: { name: 'weather' } }]
  const { choices } = await openai.chat.completions.create({ model: 'caller', messages, tools })
  assert.equal(choices[0]?.finish_reason, 'tool_calls')
  const [call] = choices[0]?.message.tool_calls ?? []
  assert.deepEqual(call?.type === 'function' && call.function, {
    name: 'weather',
    arguments: '{"city":"Bern"}',
  })
  const { data } = await openai.embeddings.create({ model: 'vectors', input: 'a' })
  const { embeddings } = await ollama.embed({ model: 'vectors', input: 'a' })
  assert.deepEqual(
    data[0]?.embedding.map((value) => Math.fround(value)),
    embeddings[0]?.map((value) => Math.fround(value)),
  )
})

test('openai: an error has its status and type, one in the middle of a stream is swallowed', async () => {
  await assert.rejects(
    openai.chat.completions.create({ model: 'absent', messages }),
    (error) => error instanceof APIError && error.status === 404 && error.type === 'not_found_error',
  )
  node.control.errorLine(1, 'llama-server process has terminated: exit status 1', { times: 1 })
  const chunks: string[] = []
  const stream = await openai.chat.completions.create({ model: 'talker', messages, stream: true })
  for await (const chunk of stream) {
    chunks.push(`${chunk.model}|${chunk.choices[0]?.delta.content}|${chunk.choices[0]?.finish_reason}`)
  }
  assert.deepEqual(chunks, ['talker|once |null', '||null'])
})

test('openai: abort closes the request on the node', async () => {
  const before = node.stats().aborted
  const stream = await openai.chat.completions.create({ model: 'slow', messages, stream: true })
  for await (const _ of stream) break
  await aborts(before + 1)
  assert.equal(node.stats().models['slow:latest']?.inFlight, 0)
})

test('openai: responses, whole and streamed, with thinking and a tool call', async () => {
  const whole = await openai.responses.create({ model: 'talker', input: 'hi', max_output_tokens: 2 })
  assert.equal(whole.output_text, 'once upon ')
  const respond = async (
    model: string,
    tools: { type: 'function'; name: string; parameters: Record<string, unknown>; strict: null }[] = [],
  ) => {
    for await (const event of await openai.responses.create({ model, input: 'hi', stream: true, tools }))
      if (event.type === 'response.completed') return event.response.output
    return []
  }
  const thought = await respond('thinker')
  assert.deepEqual(
    thought.map(({ type }) => type),
    ['reasoning', 'message'],
  )
  const spoken = await openai.responses.stream({ model: 'talker', input: 'hi' }).finalResponse()
  assert.equal(spoken.output_text, 'once upon a time')
  const [call] = await respond('caller', [
    { type: 'function', name: 'weather', parameters: {}, strict: null },
  ])
  assert.deepEqual(call?.type === 'function_call' && [call.name, call.arguments], [
    'weather',
    '{"city":"Bern"}',
  ])
})

test('openai: responses whose runner fails midway have no end', async () => {
  node.control.errorLine(1, 'llama-server process has terminated: exit status 1', { times: 1 })
  const types: string[] = []
  for await (const { type } of await openai.responses.create({ model: 'talker', input: 'hi', stream: true }))
    types.push(type)
  assert.equal(types.at(-1), 'response.output_text.delta')
})

const saying = { max_tokens: 50, messages }

test('anthropic: messages, whole and streamed, with thinking and a tool call', async () => {
  const whole = await anthropic.messages.create({ model: 'talker', ...saying, max_tokens: 2 })
  assert.deepEqual([whole.content, whole.stop_reason], [[{ type: 'text', text: 'once upon ' }], 'max_tokens'])
  assert.equal(
    await anthropic.messages.stream({ model: 'talker', ...saying }).finalText(),
    'once upon a time',
  )
  const thought = await anthropic.messages.stream({ model: 'thinker', ...saying }).finalMessage()
  assert.deepEqual(
    thought.content.map(({ type }) => type),
    ['thinking', 'text'],
  )
  const tools = [{ name: 'weather', input_schema: { type: 'object' as const } }]
  for (const message of [
    await anthropic.messages.stream({ model: 'caller', ...saying, tools }).finalMessage(),
    await anthropic.messages.create({ model: 'caller', ...saying, tools }),
  ]) {
    const [call] = message.content
    assert.equal(message.stop_reason, 'tool_use')
    assert.deepEqual(call?.type === 'tool_use' && [call.name, call.input], ['weather', { city: 'Bern' }])
  }
})

test('anthropic: an error has its class and type, one in the middle of a stream is swallowed', async () => {
  await assert.rejects(
    anthropic.messages.create({ model: 'absent', ...saying }),
    (error) => error instanceof Anthropic.NotFoundError && error.type === 'not_found_error',
  )
  node.control.errorLine(1, 'llama-server process has terminated: exit status 1', { times: 1 })
  const types: string[] = []
  for await (const { type } of await anthropic.messages.create({ model: 'talker', ...saying, stream: true }))
    types.push(type)
  assert.deepEqual(types, ['message_start', 'content_block_start', 'content_block_delta'])
})

test('anthropic: abort closes the request on the node', async () => {
  const before = node.stats().aborted
  for await (const _ of await anthropic.messages.create({ model: 'slow', ...saying, stream: true })) break
  await aborts(before + 1)
  assert.equal(node.stats().models['slow:latest']?.inFlight, 0)
})

test('the quick start models answer a first chat within two seconds of model time', () => {
  for (const model of quickstartModels)
    assert.ok((model.loadMs ?? Number.POSITIVE_INFINITY) <= 1000, model.name)
})
