import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aLoadedFleet, aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { rawAnswer, startRawNode } from '../support/wire.ts'

interface OwnError {
  readonly title: string
  readonly path: string
  readonly request: object
  readonly status: number
  /** The error of Ollama. */
  readonly text: string
}

const inJson = (code: number, message: string) => JSON.stringify({ error: { code, message, type: 'x' } })
const noEmbeddings = 'This server does not support embeddings. Start it with `--embeddings`'
const noImages = inJson(500, 'image input is not supported - hint: you may need to provide the mmproj')
const image = { messages: [{ role: 'user', content: 'what is this?', images: ['iVBORw0KGgo='] }] }
const hello = { messages: [{ role: 'user', content: 'hello' }] }

/** Errors that a request causes, with the texts of Ollama 0.33. */
const ownErrors: readonly OwnError[] = [
  {
    title: 'an embedding by a chat model',
    path: '/api/embed',
    request: { input: 'x' },
    status: 501,
    text: noEmbeddings,
  },
  {
    title: 'an embedding in the old dialect',
    path: '/api/embeddings',
    request: { prompt: 'x' },
    status: 500,
    text: noEmbeddings,
  },
  {
    title: "an embedding in OpenAI's dialect",
    path: '/v1/embeddings',
    request: { input: 'x' },
    status: 501,
    text: noEmbeddings,
  },
  {
    title: 'an image for a model without eyes',
    path: '/api/chat',
    request: image,
    status: 500,
    text: noImages,
  },
  {
    title: 'a format that is neither "json" nor a schema',
    path: '/api/chat',
    request: { ...hello, format: 'out of memory' },
    status: 500,
    text: String.raw`invalid format: "\"out of memory\""; expected "json" or a valid JSON Schema object`,
  },
  {
    title: 'a schema that is none',
    path: '/api/chat',
    request: { ...hello, format: { type: 'llama-server process has terminated' } },
    status: 400,
    text: inJson(
      400,
      'JSON schema conversion failed: Unrecognized schema: llama-server process has terminated',
    ),
  },
  {
    title: 'an image that is not base64',
    path: '/api/chat',
    request: { messages: [{ role: 'user', content: '', images: ['%%%'] }] },
    status: 400,
    text: 'illegal base64 data at input byte 0',
  },
  {
    title: 'an image by its address',
    path: '/v1/chat/completions',
    request: hello,
    status: 400,
    text: 'image URLs are not currently supported, please use base64 encoded data instead',
  },
  {
    title: 'an option of the wrong type',
    path: '/api/generate',
    request: { prompt: 'x', options: { seed: 'x' } },
    status: 500,
    text: 'option "seed" must be of type integer',
  },
  {
    title: 'a prompt that is longer than the context',
    path: '/api/chat',
    request: { ...hello, truncate: false },
    status: 400,
    text: inJson(400, 'request (9000 tokens) exceeds the available context size (4096 tokens)'),
  },
  {
    title: 'an input that is longer than the context',
    path: '/api/embed',
    request: { input: 'x', truncate: false },
    status: 400,
    text: 'the input length exceeds the context length',
  },
  {
    title: 'a duration that is none',
    path: '/api/embed',
    request: { input: 'x' },
    status: 400,
    text: 'time: invalid duration "EOF"',
  },
  {
    title: 'two answers at the end of a conversation',
    path: '/api/chat',
    request: hello,
    status: 400,
    text: inJson(400, 'Cannot have 2 or more assistant messages at the end of the list.'),
  },
  {
    title: 'a conversation that the template does not take',
    path: '/api/chat',
    request: hello,
    status: 500,
    text: inJson(500, 'Conversation roles must alternate user/assistant/user/assistant/...'),
  },
  {
    title: 'thinking asked of a model that cannot',
    path: '/api/chat',
    request: { ...hello, think: true },
    status: 400,
    text: '"m" does not support thinking',
  },
]

suite('an error that a request brings on itself', () => {
  for (const { title, path, request, status, text } of ownErrors) {
    test(`${title}: one attempt each, no breaker opens, others are served (365)`, async () => {
      const serve = () =>
        startRawNode((socket, bytes) => {
          if (!bytes.endsWith('}')) return
          const answer = JSON.stringify({ error: text })
          const extra = 'Connection: close\r\n'
          socket.end(
            bytes.includes('"mine"')
              ? rawAnswer(answer, { status: `${status} Status`, extra })
              : rawAnswer('{"message":{"content":"hi"},"done":true}', { extra }),
          )
        })
      await using a = await serve()
      await using b = await serve()
      const nodes = [
        { name: 'a', url: a.url, slots: 8 },
        { name: 'b', url: b.url, slots: 8 },
      ]
      await using gateway = await startGateway(aLoadedFleet({ nodes }))
      const ask = (at: string, fields: object) =>
        fetch(gateway.url + at, {
          method: 'POST',
          body: JSON.stringify({ model: 'm', stream: false, ...fields }),
        })
      for (let nth = 0; nth < 20; nth++) {
        const answer = await ask(path, { ...request, user: 'mine' })
        assert.equal(answer.status, status)
        assert.equal(answer.headers.get('x-llamero-attempts'), '1')
        assert.ok((await answer.text()).includes(JSON.stringify(text).slice(1, -1)))
      }
      assert.equal(a.received.length + b.received.length, 20)
      assert.deepEqual(
        ['a', 'b'].map((node) => gateway.upstreams.breakerState(node)),
        ['closed', 'closed'],
      )
      assert.deepEqual(gateway.doubted, [])
      for (let nth = 0; nth < 4; nth++) assert.equal((await ask('/api/chat', hello)).status, 200)
    })
  }
})

suite('an embedding', () => {
  const paths = ['/api/embed', '/api/embeddings', '/v1/embeddings']
  const embed = async (path: string, status: number, said: string) => {
    await using node = await startRawNode((socket, bytes) => {
      const answer = rawAnswer(JSON.stringify({ error: said }), {
        status: `${status} Status`,
        extra: 'Connection: close\r\n',
      })
      if (bytes.endsWith('}')) socket.end(answer)
    })
    await using gateway = await startGateway(aLoadedFleet({ nodes: [{ name: 'a', url: node.url }] }))
    const body = '{"model":"m","input":"x","prompt":"x"}'
    const answer = await fetch(gateway.url + path, { method: 'POST', body })
    return { status: answer.status, text: await answer.text() }
  }

  test('that loses its runner is no mistake of the caller, and the error has no address of the node', async () => {
    const said = 'do embedding request: Post "http://127.0.0.1:34567/embedding": EOF'
    for (const path of paths)
      for (const status of [400, 500]) {
        const answer = await embed(path, status, said)
        assert.equal(answer.status, 502)
        assert.match(
          answer.text,
          /the Ollama server failed: its runner of model 'm:latest' stopped while it computed the embedding; send/,
        )
        assert.doesNotMatch(answer.text, /127\.0\.0\.1/)
      }
    const killed = await embed('/api/embed', 400, 'llama-server process has terminated: signal: killed')
    assert.equal(killed.status, 502)
    assert.match(killed.text, /the Ollama server failed: llama-server process has terminated: signal: killed/)
  })

  test('that is asked of a chat model is refused with the name of the model', async () => {
    for (const said of [noEmbeddings, inJson(501, noEmbeddings)])
      for (const path of paths) {
        const { status, text } = await embed(path, 501, said)
        assert.equal(status, 501)
        assert.match(text, /model 'm:latest' does not support embeddings; its runner says: This server does/)
        assert.doesNotThrow(() => JSON.parse(text))
      }
  })

  test('that is a mistake of the caller is refused with the text of Ollama', async () => {
    const said = 'the input length exceeds the context length'
    assert.deepEqual(await embed('/api/embed', 400, said), {
      status: 400,
      text: JSON.stringify({ error: said }),
    })
  })
})

test('a request that kills every runner blocks no other model (365)', async () => {
  const died = rawAnswer(JSON.stringify({ error: 'llama-server process has terminated: signal: killed' }), {
    status: '500 Internal Server Error',
    extra: 'Connection: close\r\n',
  })
  const fine = rawAnswer('{"message":{"content":"hi"},"done":true}', { extra: 'Connection: close\r\n' })
  const serve = () =>
    startRawNode((socket, bytes) => {
      if (bytes.endsWith('}')) socket.end(bytes.includes('"deadly"') ? died : fine)
    })
  await using a = await serve()
  await using b = await serve()
  const models = ['m:latest', 'n:latest']
  const nodes = [
    { name: 'a', url: a.url, slots: 8, models },
    { name: 'b', url: b.url, slots: 8, models },
  ]
  await using gateway = await startGateway(aLoadedFleet({ nodes }))
  const ask = (fields: object) =>
    fetch(`${gateway.url}/api/chat`, { method: 'POST', body: JSON.stringify({ stream: false, ...fields }) })
  for (let nth = 0; nth < 20; nth++) {
    assert.equal((await ask({ model: 'm', user: 'deadly' })).status, 500)
    assert.equal((await ask({ model: 'n', ...hello })).status, 200)
  }
  assert.deepEqual(
    ['a', 'b'].map((node) => gateway.upstreams.breakerState(node)),
    ['closed', 'closed'],
  )
  assert.equal((await ask({ model: 'm', ...hello })).status, 200, 'where all are kept from it one is tried')
})

test('an embedding by a chat model that is not in memory loads it on one node only (365)', async () => {
  const models = [aModel({ name: 'm', loadMs: 1 })]
  const started = await Promise.all(['a', 'b'].map((name) => SimulatedNode.start({ name, models })))
  const nodes = started.map(({ name, url }) => ({ name, url }))
  await using gateway = await startGateway(aSnapshot({ nodes }))
  for (let nth = 0; nth < 3; nth++) {
    const body = JSON.stringify({ model: 'm', input: 'x' })
    const answer = await fetch(`${gateway.url}/api/embed`, { method: 'POST', body })
    assert.equal(answer.status, 501)
    assert.equal(answer.headers.get('x-llamero-attempts'), '1')
  }
  assert.deepEqual(started.map((node) => node.stats().loads).toSorted(), [0, 1])
  for (const node of started) await node.stop()
})
