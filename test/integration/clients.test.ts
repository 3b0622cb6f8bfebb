import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { type Instance, startInstance } from '../support/instance.ts'
import { eventually } from '../support/wire.ts'

const messages = [{ role: 'user' as const, content: 'tell me something' }]
const models = [
  aModel({ name: 'chatty:1b', loadMs: 20, promptTps: 10_000, decodeTps: 2000 }),
  aModel({ name: 'slow:1b', loadMs: 20, promptTps: 10_000, decodeTps: 10 }),
  aModel({ name: 'ears:latest', loadMs: 20, promptTps: 10_000, capabilities: ['completion', 'audio'] }),
  aModel({ name: 'embedder:latest', loadMs: 20, capabilities: ['embedding'], embedDim: 8 }),
]

suite('clients of one Ollama work unchanged against three:', () => {
  let instance: Instance
  let ollama: Ollama
  let openai: OpenAI
  before(async () => {
    instance = await startInstance({ nodes: 3, models })
    ollama = new Ollama({ host: instance.url })
    openai = new OpenAI({ baseURL: `${instance.url}/v1`, apiKey: 'ollama', maxRetries: 0 })
  })
  after(() => instance[Symbol.asyncDispose]())

  const names = ['chatty:1b', 'ears:latest', 'embedder:latest', 'slow:1b']

  test('ollama list and ps', async () => {
    assert.deepEqual((await ollama.list()).models.map(({ name }) => name).sort(), names)
    await ollama.chat({ model: 'chatty:1b', messages })
    await eventuallyLoaded(ollama, 'chatty:1b')
  })

  test('ollama version', async () => {
    assert.match((await ollama.version()).version, /^\d+\.\d+\.\d+$/)
  })

  test('ollama show', async () => {
    const { capabilities, model_info } = await ollama.show({ model: 'EMBEDDER' })
    assert.deepEqual(capabilities, ['embedding'])
    assert(Object.keys(model_info).length > 0)
    await assert.rejects(ollama.show({ model: 'unknown' }), /model 'unknown' not found/)
  })

  test('ollama is told which key changes models', async () => {
    await assert.rejects(ollama.pull({ model: 'chatty:1b' }), /needs the scope admin/)
    await assert.rejects(
      ollama.delete({ model: 'chatty:1b' }),
      /llamero key create NAME --scope inference --scope admin/,
    )
  })

  test('openai retrieves a model, anthropic counts tokens', async () => {
    const { id, owned_by } = await openai.models.retrieve('embedder:latest')
    assert.deepEqual([id, owned_by], ['embedder:latest', 'library'])
    await assert.rejects(openai.models.retrieve('team/unknown'), OpenAI.NotFoundError)
    const anthropic = new Anthropic({ baseURL: instance.url, apiKey: 'ollama', maxRetries: 0 })
    assert.deepEqual(await anthropic.messages.countTokens({ model: 'chatty:1b', messages }), {
      input_tokens: 5,
    })
  })

  test('ollama chat, whole and streamed, give the same text', async () => {
    const whole = await ollama.chat({ model: 'chatty:1b', messages })
    assert.equal(whole.done, true)
    let streamed = ''
    for await (const part of await ollama.chat({ model: 'chatty:1b', messages, stream: true }))
      streamed += part.message.content
    assert.equal(streamed, whole.message.content)
    assert(streamed.length > 0)
  })

  test('ollama generate', async () => {
    const { response } = await ollama.generate({ model: 'CHATTY:1b', prompt: 'hello' })
    assert.notEqual(response, '')
  })

  test('ollama embed and embeddings', async () => {
    const { embeddings } = await ollama.embed({ model: 'embedder', input: ['a', 'b'] })
    assert.deepEqual(
      embeddings.map(({ length }) => length),
      [8, 8],
    )
    assert.equal((await ollama.embeddings({ model: 'embedder', prompt: 'a' })).embedding.length, 8)
  })

  test('ollama abort closes the stream and frees the slot', async () => {
    const stream = await ollama.chat({ model: 'slow:1b', messages, stream: true })
    await assert.rejects(
      async () => {
        for await (const _part of stream) stream.abort()
      },
      { name: 'AbortError' },
    )
    await eventually(() => isIdle(instance), 'no node works for nobody')
  })

  test('ollama sees the error of an unknown model', async () => {
    await assert.rejects(ollama.chat({ model: 'unknown', messages }), /model 'unknown' not found/)
  })

  test('openai models', async () => {
    const listed = []
    for await (const model of openai.models.list()) listed.push(model.id)
    assert.deepEqual(listed.sort(), names)
  })

  test('openai chat completions, whole and streamed, give the same text', async () => {
    const whole = await openai.chat.completions.create({ model: 'chatty:1b', messages })
    let streamed = ''
    for await (const part of await openai.chat.completions.create({
      model: 'chatty:1b',
      messages,
      stream: true,
    })) {
      streamed += part.choices[0]?.delta.content ?? ''
    }
    assert.equal(streamed, whole.choices[0]?.message.content)
    assert(streamed.length > 0)
  })

  test('openai completions and embeddings', async () => {
    const { choices } = await openai.completions.create({ model: 'chatty:1b', prompt: 'hello' })
    assert.notEqual(choices[0]?.text ?? '', '')
    const { data } = await openai.embeddings.create({
      model: 'embedder',
      input: 'a',
      encoding_format: 'float',
    })
    assert.equal(data[0]?.embedding.length, 8)
  })

  test('openai transcriptions, in JSON and in plain text', async () => {
    const file = new File(['RIFF....'.repeat(50_000)], 'speech.wav')
    const { text } = await openai.audio.transcriptions.create({ model: 'ears', file })
    assert.notEqual(text, '')
    const asText = { model: 'EARS', file, response_format: 'text' } as const
    assert.equal(await openai.audio.transcriptions.create(asText), text)
    await assert.rejects(
      openai.audio.transcriptions.create({ model: 'chatty:1b', file }),
      OpenAI.BadRequestError,
    )
    await assert.rejects(openai.audio.transcriptions.create({ model: 'unknown', file }), OpenAI.NotFoundError)
  })

  test('openai responses and anthropic messages, whole and streamed, give the same text', async () => {
    const asked = { model: 'chatty:1b', input: 'hello' }
    const { output_text: answered } = await openai.responses.create(asked)
    assert.equal((await openai.responses.stream(asked).finalResponse()).output_text, answered)
    assert.notEqual(answered, '')
    const anthropic = new Anthropic({ baseURL: instance.url, apiKey: 'ollama', maxRetries: 0 })
    const saying = { model: 'chatty:1b', max_tokens: 100, messages }
    const { content } = await anthropic.messages.create(saying)
    assert.equal(content[0]?.type, 'text')
    assert.deepEqual((await anthropic.messages.stream(saying).finalMessage()).content, content)
    await assert.rejects(anthropic.messages.create({ ...saying, model: 'unknown' }), Anthropic.NotFoundError)
  })

  test('openai abort closes the stream and frees the slot', async () => {
    const stream = await openai.chat.completions.create({ model: 'slow:1b', messages, stream: true })
    for await (const _part of stream) stream.controller.abort()
    await eventually(() => isIdle(instance), 'no node works for nobody')
  })

  test('openai sees its own error classes', async () => {
    await assert.rejects(openai.chat.completions.create({ model: 'unknown', messages }), OpenAI.NotFoundError)
    const stranger = new OpenAI({ baseURL: `${instance.url}/v1`, apiKey: 'llm_wrong', maxRetries: 0 })
    await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError)
  })
})

function isIdle({ nodes }: Instance): boolean {
  return nodes.every((node) => Object.values(node.stats().models).every(({ inFlight }) => inFlight === 0))
}

async function eventuallyLoaded(ollama: Ollama, model: string): Promise<void> {
  let loaded: string[] = []
  for (let n = 0; n < 100 && !loaded.includes(model); n++) {
    loaded = (await ollama.ps()).models.map(({ name }) => name)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  assert(loaded.includes(model), `${model} never appeared in ps`)
}
