import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'

// Samples of answers (docs/ollama.md#answers), field by field and in their order, from a node whose clock stands still
// between requests.
const date = '2026-01-02T03:04:05.000000000Z'
const created = Date.parse(date) / 1000
const digest = 'ab'.repeat(32)
const details =
  '"details":{"parent_model":"","format":"simulated","family":"llama","families":["llama"],"parameter_size":"1B","quantization_level":"Q4_K_M"'
const capabilities = ['completion', 'tools', 'thinking']
const models = [
  aModel({
    name: 'm:1b',
    digest,
    sizeMiB: 1000,
    kvMiBPer1kCtx: 1,
    trainCtx: 1000,
    parameterSize: '1B',
    embedDim: 2,
    loadMs: 0,
    promptTps: Number.POSITIVE_INFINITY,
    decodeTps: Number.POSITIVE_INFINITY,
    text: 'Hi <you>',
    capabilities,
  }),
]
models.push(aModel({ ...models[0]!, name: 'plain', digest: 'cd'.repeat(32), capabilities: ['completion'] }))
models.push(aModel({ ...models[0]!, name: 'vectors', digest: 'ef'.repeat(32), capabilities: ['embedding'] }))

let node: SimulatedNode
const clock = new VirtualClock(new Date(date))

before(async () => {
  node = await SimulatedNode.start({ name: 'golden', clock, models, gpus: [] })
  for (const model of ['m:1b', 'plain', 'vectors']) await load(model)
})

async function load(model: string): Promise<void> {
  const before = node.log.length
  const loaded = call('POST', '/api/embed', { model })
  while (!node.log.slice(before).some((event) => event.type === 'load-start')) await turn()
  await clock.advance(0)
  await loaded
}

after(() => node.stop())

async function call(method: string, path: string, body?: unknown) {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  const response = await fetch(node.url + path, { method, ...(body === undefined ? {} : { body: text }) })
  return { status: response.status, type: response.headers.get('content-type'), text: await response.text() }
}

/** One turn of the event loop. */
function turn() {
  return new Promise((resolve) => setImmediate(resolve))
}

const json = 'application/json; charset=utf-8'
const messages = [{ role: 'user', content: 'hi' }]
const think = false

test('the heartbeat, the version and answers to wrong paths', async () => {
  assert.deepEqual(await call('GET', '/'), {
    status: 200,
    type: 'text/plain; charset=utf-8',
    text: 'Ollama is running',
  })
  assert.deepEqual(await call('GET', '/api/version?ts=1'), {
    status: 200,
    type: json,
    text: '{"version":"0.32.15"}',
  })
  for (const path of ['/', '/api/version', '/api/tags']) assert.equal((await call('HEAD', path)).status, 200)
  for (const path of ['/nope', '/api/blobs/', '/v1/messages/count_tokens', '/__proto__']) {
    assert.deepEqual(await call('POST', path, {}), {
      status: 404,
      type: 'text/plain',
      text: '404 page not found',
    })
  }
  for (const [method, path] of [
    ['GET', '/api/generate'],
    ['HEAD', '/api/ps'],
    ['HEAD', '/v1/models'],
  ] as const) {
    const { status, type } = await call(method, path)
    assert.deepEqual([status, type], [405, 'text/plain'])
  }
})

test('the inventory: tags, ps, show and /v1/models', async () => {
  const [first] = JSON.parse((await call('GET', '/api/tags')).text).models
  assert.equal(
    JSON.stringify(first),
    `{"name":"m:1b","model":"m:1b","modified_at":"${date}","size":1048576000,"digest":"${digest}",${details},"context_length":1000,"embedding_length":2},"capabilities":["completion","tools","thinking"]}`,
  )
  const [loaded] = JSON.parse((await call('GET', '/api/ps')).text).models
  assert.equal(
    JSON.stringify(loaded),
    `{"name":"m:1b","model":"m:1b","size":1049624576,"digest":"${digest}",${details}},"expires_at":"2026-01-02T03:09:05.000000000Z","size_vram":0,"context_length":1000}`,
  )
  const shown = await call('POST', '/api/show', { name: 'M:1B' })
  assert.equal(
    shown.text,
    `{"modelfile":"# simulated: there are no weights\\nFROM m:1b\\n","template":"{{ .Prompt }}",${details}},"model_info":{"general.architecture":"llama","llama.context_length":1000,"llama.embedding_length":2,"tokenizer.ggml.tokens":null},"capabilities":["completion","tools","thinking"],"modified_at":"${date}"}`,
  )
  const list = await call('GET', '/v1/models')
  assert.equal(list.type, 'application/json')
  assert.ok(
    list.text.startsWith(
      `{"object":"list","data":[{"id":"m:1b","object":"model","created":${created},"owned_by":"library"},`,
    ),
  )
})

test('a node without models lists none, and /v1/models says null', async () => {
  const bare = await SimulatedNode.start({ name: 'bare', models: [] })
  const tags = await (await fetch(`${bare.url}/api/tags`)).text()
  const list = await (await fetch(`${bare.url}/v1/models`)).text()
  await bare.stop()
  assert.equal(tags, '{"models":[]}')
  assert.equal(list, '{"object":"list","data":null}\n')
})

const head = `{"model":"M:1b","created_at":"${date}",`

test('/api/chat as a stream, as a whole, thinking, with a tool call, loading and unloading', async () => {
  const chat = async (more: object) => call('POST', '/api/chat', { model: 'M:1b', messages, ...more })
  const stream = await chat({ think })
  assert.equal(stream.type, 'application/x-ndjson')
  assert.equal(
    stream.text,
    `${head}"message":{"role":"assistant","content":"Hi "},"done":false}\n` +
      `${head}"message":{"role":"assistant","content":"\\u003cyou\\u003e"},"done":false}\n` +
      `${head}"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":6,"eval_count":2}\n`,
  )
  assert.deepEqual(await chat({ think, stream: false }), {
    status: 200,
    type: json,
    text: `${head}"message":{"role":"assistant","content":"Hi \\u003cyou\\u003e"},"done":true,"done_reason":"stop","prompt_eval_count":6,"eval_count":2}`,
  })
  const thinking = await chat({ options: { num_predict: 1, x_fake: { thinkTokens: 1 } } })
  assert.match(
    thinking.text.split('\n')[0]!,
    /"message":\{"role":"assistant","content":"","thinking":"\w+ "\},"done":false\}$/,
  )
  const toolCall = { name: 'f', arguments: { x: 1 } }
  const called = await chat({ think, tools: [{}], options: { x_fake: { toolCall } } })
  assert.match(
    called.text,
    /"content":"","tool_calls":\[\{"id":"call_[0-9a-f]{8}","function":\{"index":0,"name":"f","arguments":\{"x":1\}\}\}\]\},"done":true,"done_reason":"stop"/,
  )
  assert.deepEqual(await chat({ messages: [] }), {
    status: 200,
    type: json,
    text: `${head}"message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}`,
  })
  const unload = await call('POST', '/api/chat', { model: 'vectors', keep_alive: 0 })
  assert.match(unload.text, /"content":""\},"done":true,"done_reason":"unload"\}$/)
})

test('/api/generate ends with the context, unless it is raw', async () => {
  const generate = async (more: object) =>
    call('POST', '/api/generate', { model: 'M:1b', prompt: 'hi', think, ...more })
  const stream = await generate({ options: { num_predict: 1 } })
  assert.equal(stream.type, 'application/x-ndjson')
  assert.equal(
    stream.text,
    `${head}"response":"Hi ","done":false}\n` +
      `${head}"response":"","done":true,"done_reason":"length","context":[0,7919,15838,23757,31676,39595,47514],"prompt_eval_count":6,"eval_count":1}\n`,
  )
  assert.deepEqual(await generate({ raw: true, stream: false }), {
    status: 200,
    type: json,
    text: `${head}"response":"Hi \\u003cyou\\u003e","done":true,"done_reason":"stop","prompt_eval_count":1,"eval_count":2}`,
  })
  assert.equal(
    (await generate({ prompt: '' })).text,
    `${head}"response":"","done":true,"done_reason":"load"}`,
  )
})

test('/v1/chat/completions as a stream with usage, and as a whole', async () => {
  const complete = async (more: object) =>
    call('POST', '/v1/chat/completions', { model: 'M:1b', messages, reasoning_effort: 'none', ...more })
  const stream = await complete({ stream: true, stream_options: { include_usage: true } })
  const id = /chatcmpl-\d{1,3}/.exec(stream.text)?.[0]
  const open = `{"id":"${id}","object":"chat.completion.chunk","created":${created},"model":"M:1b","system_fingerprint":"fp_ollama",`
  assert.equal(stream.type, 'text/event-stream')
  assert.deepEqual(stream.text.split('\n\n'), [
    `data: ${open}"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi "},"finish_reason":null}]}`,
    `data: ${open}"choices":[{"index":0,"delta":{"content":"\\u003cyou\\u003e"},"finish_reason":null}]}`,
    `data: ${open}"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
    `data: ${open}"choices":[],"usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}`,
    'data: [DONE]',
    '',
  ])
  const whole = await complete({})
  assert.equal(whole.type, 'application/json')
  assert.equal(
    whole.text.replace(/chatcmpl-\d+/, 'ID'),
    `{"id":"ID","object":"chat.completion","created":${created},"model":"M:1b","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"Hi \\u003cyou\\u003e"},"finish_reason":"stop"}],"usage":{"prompt_tokens":6,"completion_tokens":2,"total_tokens":8}}\n`,
  )
})

test('/v1/completions as a stream, where asking for usage puts zeros in every chunk, and as a whole', async () => {
  const complete = async (more: object) => {
    const { text } = await call('POST', '/v1/completions', {
      model: 'M:1b',
      prompt: 'hi',
      max_tokens: 1,
      ...more,
    })
    return text.replaceAll(/cmpl-\d+/g, 'ID')
  }
  const open = `data: {"id":"ID","object":"text_completion","created":${created},`
  const close = '"model":"M:1b","system_fingerprint":"fp_ollama"'
  const zeros = '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
  const usage = '"usage":{"prompt_tokens":6,"completion_tokens":1,"total_tokens":7}'
  const stream = await complete({ stream: true, stream_options: { include_usage: true } })
  assert.deepEqual(stream.split('\n\n'), [
    `${open}"choices":[{"text":"Hi ","index":0,"finish_reason":null}],${close},${zeros}}`,
    `${open}"choices":[{"text":"","index":0,"finish_reason":"length"}],${close},${zeros}}`,
    `${open}"choices":[],${close},${usage}}`,
    'data: [DONE]',
    '',
  ])
  assert.equal(
    await complete({}),
    `{"id":"ID","object":"text_completion","created":${created},${close},"choices":[{"text":"Hi ","index":0,"finish_reason":"length"}],${usage}}\n`,
  )
})

test('/v1/messages as a stream and as a whole', async () => {
  const say = async (more: object) => {
    const answer = await call('POST', '/v1/messages', { model: 'M:1b', messages, max_tokens: 9, ...more })
    return { ...answer, text: answer.text.replaceAll(/(msg|call)_[0-9a-f]+/g, '$1_ID') }
  }
  const thinking = { type: 'disabled' }
  const message = '"id":"msg_ID","type":"message","role":"assistant","model":"M:1b"'
  const events = (...pairs: [string, string][]) =>
    pairs.map(([type, rest]) => `event: ${type}\ndata: {"type":"${type}"${rest}}\n\n`).join('')
  const start: [string, string] = [
    'message_start',
    `,"message":{${message},"content":[],"usage":{"input_tokens":6,"output_tokens":0}}`,
  ]
  const stream = await say({ stream: true, thinking })
  assert.equal(stream.type, 'text/event-stream')
  assert.equal(
    stream.text,
    events(
      start,
      ['content_block_start', ',"index":0,"content_block":{"type":"text","text":""}'],
      ['content_block_delta', ',"index":0,"delta":{"type":"text_delta","text":"Hi "}'],
      ['content_block_delta', ',"index":0,"delta":{"type":"text_delta","text":"\\u003cyou\\u003e"}'],
      ['content_block_stop', ',"index":0'],
      ['message_delta', ',"delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":6,"output_tokens":2}'],
      ['message_stop', ''],
    ),
  )
  assert.deepEqual(await say({ thinking, max_tokens: 1 }), {
    status: 200,
    type: 'application/json',
    text: `{${message},"content":[{"type":"text","text":"Hi "}],"stop_reason":"max_tokens","usage":{"input_tokens":6,"output_tokens":1}}\n`,
  })
})

test('/v1/responses as a stream, its keys in order as Go maps come out, and as a whole', async () => {
  const respond = async (more: object) => {
    const body = { model: 'M:1b', input: 'hi', reasoning: { effort: 'none' }, ...more }
    const answer = await call('POST', '/v1/responses', body)
    return { ...answer, text: answer.text.replaceAll(/(resp|msg)_\d+/g, '$1_ID') }
  }
  const part = (text: string) => `{"annotations":[],"logprobs":[],"text":"${text}","type":"output_text"}`
  const item = (content: string, status: string) =>
    `{"content":[${content}],"id":"msg_ID","role":"assistant","status":"${status}","type":"message"}`
  const response = (status: string, completed: string, output: string, usage: string) =>
    `{"background":false,"completed_at":${completed},"created_at":${created},"error":null,"frequency_penalty":0,"id":"resp_ID","incomplete_details":null,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"model":"M:1b","object":"response","output":[${output}],"parallel_tool_calls":true,"presence_penalty":0,"previous_response_id":null,"prompt_cache_key":null,"reasoning":null,"safety_identifier":null,"service_tier":"default","status":"${status}","store":false,"temperature":1,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1,"truncation":"disabled","usage":${usage}}`
  const text = 'Hi \\u003cyou\\u003e'
  const begun = response('in_progress', 'null', '', 'null')
  const usage =
    '{"input_tokens":6,"input_tokens_details":{"cached_tokens":0},"output_tokens":2,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":8}'
  const done = response('completed', String(created), item(part(text), 'completed'), usage)
  const at = '"item_id":"msg_ID"'
  // What stands before and after the sequence number, by the names of the keys.
  const expected: [string, string, string?][] = [
    ['response.created', `"response":${begun},`],
    ['response.in_progress', `"response":${begun},`],
    ['response.output_item.added', `"item":${item('', 'in_progress')},"output_index":0,`],
    ['response.content_part.added', `"content_index":0,${at},"output_index":0,"part":${part('')},`],
    ['response.output_text.delta', `"content_index":0,"delta":"Hi ",${at},"logprobs":[],"output_index":0,`],
    [
      'response.output_text.delta',
      `"content_index":0,"delta":"\\u003cyou\\u003e",${at},"logprobs":[],"output_index":0,`,
    ],
    [
      'response.output_text.done',
      `"content_index":0,${at},"logprobs":[],"output_index":0,`,
      `"text":"${text}",`,
    ],
    ['response.content_part.done', `"content_index":0,${at},"output_index":0,"part":${part(text)},`],
    ['response.output_item.done', `"item":${item(part(text), 'completed')},"output_index":0,`],
    ['response.completed', `"response":${done},`],
  ]
  const stream = await respond({ stream: true })
  assert.equal(stream.type, 'text/event-stream')
  assert.deepEqual(
    stream.text.split('\n\n'),
    expected
      .map(
        ([type, before, after = ''], n) =>
          `event: ${type}\ndata: {${before}"sequence_number":${n},${after}"type":"${type}"}`,
      )
      .concat(''),
  )
  const whole = await respond({})
  assert.equal(whole.type, 'application/json')
  assert.ok(
    whole.text.startsWith(
      `{"id":"resp_ID","object":"response","created_at":${created},"completed_at":${created},"status":"completed","incomplete_details":null,"model":"M:1b",`,
    ),
  )
  const { output, usage: counted } = JSON.parse(whole.text)
  assert.deepEqual([output[0].content[0].text, counted.total_tokens], ['Hi <you>', 8])
})

test('embeddings in the three dialects', async () => {
  await load('vectors')
  const embed = await call('POST', '/api/embed', { model: 'Vectors', input: ['a', 'b'] })
  assert.match(
    embed.text,
    /^\{"model":"Vectors","embeddings":\[\[-?[\d.]+,-?[\d.]+\],\[-?[\d.]+,-?[\d.]+\]\],"prompt_eval_count":2\}$/,
  )
  const [vector] = JSON.parse(embed.text).embeddings
  const single = await call('POST', '/api/embeddings', { model: 'Vectors', prompt: 'a' })
  assert.equal(single.text, JSON.stringify({ embedding: vector }))
  const list = await call('POST', '/v1/embeddings', { model: 'Vectors', input: 'a' })
  assert.equal(
    list.text,
    `{"object":"list","data":[{"object":"embedding","embedding":${JSON.stringify(vector)},"index":0}],"model":"Vectors","usage":{"prompt_tokens":1,"total_tokens":1}}\n`,
  )
  assert.equal(
    (await call('POST', '/api/embed', { model: 'Vectors' })).text,
    '{"model":"Vectors","embeddings":[]}',
  )
  assert.equal((await call('POST', '/api/embeddings', { model: 'Vectors' })).text, '{"embedding":[]}')
})

test('errors of the native endpoints', async () => {
  const expected: [string, unknown, number, string][] = [
    ['/api/chat', '', 400, 'missing request body'],
    ['/api/chat', '{', 400, 'unexpected EOF'],
    ['/api/chat', {}, 400, 'model is required'],
    ['/api/generate', {}, 404, "model '' not found"],
    ['/api/chat', { model: 'x' }, 404, "model 'x' not found"],
    ['/api/generate', { model: 'x' }, 404, "model 'x' not found"],
    ['/api/show', { model: 'x' }, 404, "model 'x' not found"],
    ['/api/show', {}, 400, 'model is required'],
    ['/api/embed', { model: 'x' }, 404, 'model \\"x\\" not found, try pulling it first'],
    ['/api/embeddings', { model: 'x' }, 404, 'model \\"x\\" not found, try pulling it first'],
    ['/api/embed', { model: 'plain', input: 5 }, 400, 'invalid input type'],
    ['/api/chat', { model: 'vectors', messages }, 400, '\\"vectors\\" does not support chat'],
    ['/api/generate', { model: 'vectors', prompt: 'p' }, 400, '\\"vectors\\" does not support generate'],
    ['/api/chat', { model: 'plain', messages, think: true }, 400, '\\"plain\\" does not support thinking'],
    [
      '/api/chat',
      { model: 'plain', messages, tools: [{}] },
      400,
      'registry.ollama.ai/library/plain:latest does not support tools',
    ],
    [
      '/api/generate',
      { model: 'plain', prompt: 'p', suffix: 's' },
      400,
      'registry.ollama.ai/library/plain:latest does not support insert',
    ],
    [
      '/api/embed',
      { model: 'plain', input: 'x'.repeat(4001), truncate: false },
      400,
      'the input length exceeds the context length',
    ],
  ]
  for (const [path, body, status, text] of expected) {
    assert.deepEqual(await call('POST', path, body), { status, type: json, text: `{"error":"${text}"}` })
  }
  const long = [{ role: 'user', content: 'x'.repeat(4000) }]
  const { status, text } = await call('POST', '/api/chat', {
    model: 'plain',
    messages: long,
    truncate: false,
  })
  assert.equal(status, 400)
  assert.equal(JSON.parse(JSON.parse(text).error).error.type, 'exceed_context_size_error')
})

test('errors of the OpenAI layer: those of reading the body come without a newline, the rest with one', async () => {
  const error = (message: string, type: string) =>
    `{"error":{"message":"${message}","type":"${type}","param":null,"code":null}}`
  const path = '/v1/chat/completions'
  assert.deepEqual(await call('POST', path, ''), {
    status: 400,
    type: json,
    text: error('EOF', 'invalid_request_error'),
  })
  assert.deepEqual(await call('POST', path, { model: 'm:1b', messages: [] }), {
    status: 400,
    type: json,
    text: error("[] is too short - 'messages'", 'invalid_request_error'),
  })
  assert.deepEqual(await call('POST', path, { model: 'x', messages }), {
    status: 404,
    type: 'application/json',
    text: `${error("model 'x' not found", 'not_found_error')}\n`,
  })
})

test('errors of the Anthropic layer name its own types, and a full queue is an overload', async () => {
  const wrong = async (body: unknown) => {
    const { status, type, text } = await call('POST', '/v1/messages', body)
    assert.match(text, /"request_id":"req_[0-9a-f]{24}"\}\n?$/)
    const { type: kind, error } = JSON.parse(text)
    return [status, type, kind, error.type, error.message]
  }
  const ask = { model: 'plain', max_tokens: 9, messages }
  const refusals: [unknown, string][] = [
    ['', 'EOF'],
    [{ ...ask, model: '' }, 'model is required'],
    [{ ...ask, max_tokens: 0 }, 'max_tokens is required and must be positive'],
    [{ ...ask, messages: [] }, 'messages is required'],
  ]
  for (const [body, text] of refusals)
    assert.deepEqual(await wrong(body), [400, json, 'error', 'invalid_request_error', text])
  assert.deepEqual(await wrong({ ...ask, model: 'x' }), [
    404,
    'application/json',
    'error',
    'not_found_error',
    "model 'x' not found",
  ])
  const relaxed = await call('POST', '/v1/messages', {
    ...ask,
    thinking: { type: 'enabled', budget_tokens: 1024 },
  })
  assert.equal(relaxed.status, 200, 'thinking asked of a model that cannot is let pass')
  const { status, text } = await call('POST', '/v1/responses', { model: 'm:1b', input: [{}] })
  assert.deepEqual(
    [status, JSON.parse(text).error.message],
    [400, "input[0]: input item missing required 'type' field"],
  )
})
