import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { type CallerPolicy, callersSchema } from '../../../lib/fleet/caller-options.ts'
import type { Api } from '../../../lib/fleet/request-spec.ts'
import { adjustOptions, namesFor, type OptionPolicy } from '../../../lib/gateway/admission/request-options.ts'
import { applyEdits } from '../../../lib/gateway/body/json-edit.ts'
import { scan } from '../../../lib/gateway/body/json-fields.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { ScanError } from '../../../lib/shared/json/json-walk.ts'

interface Sketch extends Partial<Omit<OptionPolicy, 'callers'>> {
  readonly callers?: Partial<CallerPolicy>
  readonly api?: Api
}

/** The body that a node gets, and the list of changes. */
function adjusted(text: string, sketch: Sketch = {}) {
  const { callers = {}, api = 'ollama_chat', isAdmin = false, numCtx, ...model } = sketch
  const bytes = Buffer.from(text)
  const rules = { callers: callersSchema.parse(callers), isAdmin, numCtx, ...model }
  const {
    edits,
    adjusted: said,
    variant,
    maxTokens,
  } = adjustOptions(bytes, scan(bytes, ...namesFor(api)), api, rules)
  const body = applyEdits(bytes, edits)
  return { body: body.toString(), said: said.join(', '), variant, maxTokens, isUntouched: body === bytes }
}

const refused = (field: string) => (error: unknown) =>
  error instanceof ProxyError && error.code === 'option_refused' && error.facts['field'] === field

suite("a caller's options", () => {
  test('without effect on others are sent unchanged, byte for byte', () => {
    const text =
      '{ "model":"m", "OPTIONS2":1, "options":{"seed":9007199254740993,"temperature":1e-0}, "Think":1}'
    const { isUntouched, said, variant } = adjusted(text)
    assert.deepEqual([isUntouched, said, variant], [true, '', ''])
  })

  const table: readonly [name: string, given: string, sketch: Sketch, body: string, said: string][] = [
    ['keep_alive is taken out', '{"model":"m","keep_alive":"5m"}', {}, '{"model":"m"}', 'keep_alive'],
    ['also from the front', '{"keep_alive" : 300 , "model":"m"}', {}, '{ "model":"m"}', 'keep_alive'],
    [
      'keep_alive stays where the policy says so',
      '{"model":"m","keep_alive":"5m"}',
      { callers: { keep_alive: 'caller' } },
      '{"model":"m","keep_alive":"5m"}',
      '',
    ],
    [
      'that of an administrator stays, 0 as well',
      '{"model":"m","keep_alive":0}',
      { isAdmin: true },
      '{"model":"m","keep_alive":0}',
      '',
    ],
    [
      'keep_alive null says nothing',
      '{"model":"m","keep_alive":null}',
      {},
      '{"model":"m","keep_alive":null}',
      '',
    ],
    [
      'num_gpu is dropped',
      '{"model":"m","options":{"seed":1,"num_gpu":0}}',
      {},
      '{"model":"m","options":{"seed":1}}',
      'options.num_gpu',
    ],
    [
      'num_gpu alone leaves empty options',
      '{"model":"m","options":{"num_gpu":0}}',
      {},
      '{"model":"m","options":{}}',
      'options.num_gpu',
    ],
    [
      'num_ctx is pinned where options are absent',
      '{"model":"m"}',
      { numCtx: 8192 },
      '{"options":{"num_ctx":8192},"model":"m"}',
      'options.num_ctx=8192',
    ],
    [
      'num_ctx is pinned where options are null',
      '{"model":"m","options":null}',
      { numCtx: 8192 },
      '{"model":"m","options":{"num_ctx":8192}}',
      'options.num_ctx=8192',
    ],
    [
      'num_ctx takes the place of the only option, which is dropped',
      '{"model":"m","options":{ "num_gpu":1 }}',
      { numCtx: 8192 },
      '{"model":"m","options":{"num_ctx":8192  }}',
      'options.num_gpu, options.num_ctx=8192',
    ],
    [
      'a pinned num_ctx that is asked for is nothing new',
      '{"model":"m","options":{"num_ctx":8192}}',
      { numCtx: 8192 },
      '{"model":"m","options":{"num_ctx":8192}}',
      '',
    ],
    [
      'num_ctx is capped',
      '{"model":"m","options":{"num_ctx":1e6,"seed":9007199254740993}}',
      { numCtx: { max: 32768 } },
      '{"model":"m","options":{"num_ctx":32768,"seed":9007199254740993}}',
      'options.num_ctx=32768',
    ],
    [
      'a cap leaves smaller wishes and absent ones alone',
      '{"model":"m","options":{"num_ctx":4096}}',
      { numCtx: { max: 32768 } },
      '{"model":"m","options":{"num_ctx":4096}}',
      '',
    ],
    [
      'num_predict is capped, and set where it would be endless',
      '{"model":"m","options":{"num_predict":-1}}',
      { callers: { num_predict: 256 } },
      '{"model":"m","options":{"num_predict":256}}',
      'options.num_predict=256',
    ],
    [
      'max_tokens is the same in the dialect of OpenAI',
      '{"model":"m","max_tokens":1000}',
      { callers: { num_predict: 256 }, api: 'openai_chat' },
      '{"model":"m","max_tokens":256}',
      'max_tokens=256',
    ],
    [
      'max_output_tokens is set where it is absent',
      '{"model":"m"}',
      { callers: { num_predict: 256 }, api: 'openai_responses' },
      '{"max_output_tokens":256,"model":"m"}',
      'max_output_tokens=256',
    ],
    [
      'a max_tokens that Anthropic demands is not made up',
      '{"model":"m"}',
      { callers: { num_predict: 256 }, api: 'anthropic_messages' },
      '{"model":"m"}',
      '',
    ],
    [
      'an embedding has no length to cap',
      '{"model":"m"}',
      { callers: { num_predict: 256 }, api: 'ollama_embed' },
      '{"model":"m"}',
      '',
    ],
    [
      'what /v1 does not know passes there',
      '{"model":"m","raw":true,"options":{"num_ctx":9}}',
      { numCtx: 8192, api: 'openai_chat' },
      '{"model":"m","raw":true,"options":{"num_ctx":9}}',
      '',
    ],
    [
      'flags that are off ask for nothing',
      '{"model":"m","raw":false,"template":"","_debug_render_only":null}',
      { callers: { raw: 'refuse', template: 'refuse' } },
      '{"model":"m","raw":false,"template":"","_debug_render_only":null}',
      '',
    ],
  ]
  for (const [name, given, sketch, body, said] of table) {
    test(name, () => {
      const result = adjusted(given, sketch)
      assert.deepEqual([result.body, result.said, result.isUntouched], [body, said, body === given])
    })
  }

  const unloading = ['0', '0.2', '-0', '"0"', '"0s"', '"1ms"', '"999ms"']
  const pinning = ['-1', '-0.5', '1e99', '"-5m"', '"-1s"', '"-1ns"', '"9999999h"']
  const bothPolicies = ['ours', 'caller'] as const

  test('a keep_alive that would pin the model is removed in any spelling, under any policy (335)', () => {
    for (const keep_alive of bothPolicies)
      for (const value of pinning)
        for (const rest of ['', ',"prompt":"x"', ',"messages":[{"role":"user","content":"x"}]']) {
          const result = adjusted(`{"model":"m","keep_alive":${value}${rest}}`, { callers: { keep_alive } })
          assert.deepEqual([result.body, result.said], [`{"model":"m"${rest}}`, 'keep_alive'], value + rest)
        }
  })

  test('a keep_alive that would unload the model after the response is removed under any policy (335)', () => {
    const asking: readonly [Api, string][] = [
      ['ollama_generate', '"prompt":"x"'],
      ['ollama_chat', '"messages":[{"role":"user","content":"x"}]'],
      ['ollama_embed', '"input":["x"]'],
      ['ollama_embeddings', '"prompt":"x"'],
    ]
    for (const keep_alive of bothPolicies)
      for (const value of unloading)
        for (const [api, rest] of asking) {
          const result = adjusted(`{"model":"m",${rest},"keep_alive":${value}}`, {
            callers: { keep_alive },
            api,
          })
          assert.deepEqual([result.body, result.said], [`{"model":"m",${rest}}`, 'keep_alive'], value + rest)
        }
  })

  const dialects = [
    'openai_chat',
    'openai_completions',
    'openai_embeddings',
    'openai_responses',
    'openai_unlisted',
    'anthropic_messages',
    'ollama_systemone',
    'ollama_unlisted',
  ] as const
  for (const api of dialects)
    test(`a keep_alive is removed on ${api} too, and stays for the scope admin (335)`, () => {
      for (const keep_alive of bothPolicies)
        for (const value of [...unloading, ...pinning]) {
          const body = `{"keep_alive":${value},"model":"m","max_tokens":9}`
          const result = adjusted(body, { callers: { keep_alive }, api })
          assert.deepEqual([result.body, result.said], ['{"model":"m","max_tokens":9}', 'keep_alive'], value)
          assert.equal(adjusted(body, { isAdmin: true, api }).isUntouched, true)
        }
      const minutes = '{"model":"m","keep_alive":"5m"}'
      assert.equal(adjusted(minutes, { callers: { keep_alive: 'caller' }, api }).isUntouched, true)
    })

  test('a body without a model gets one, whatever else is removed from it (335)', () => {
    const sketch = { api: 'ollama_systemone', model: 'judge:1b' } as const
    const table = [
      ['{}', '{"model":"judge:1b"}'],
      ['{"keep_alive":-1}', '{"model":"judge:1b"}'],
      ['{ "keep_alive" : -1 , "state":"x"}', '{"model":"judge:1b",  "state":"x"}'],
    ] as const
    for (const [given, body] of table) assert.equal(adjusted(given, sketch).body, body)
  })

  test('a prompt in any spelling is one: its request does not only unload (335)', () => {
    for (const rest of ['"\\u0070rompt":"x"', '"Prompt":"x"', '"MESSAGES":[{"role":"user","content":"x"}]']) {
      const api = rest.includes('MESSAGES') ? 'ollama_chat' : 'ollama_generate'
      const body = `{"model":"m","keep_alive":0,${rest}}`
      assert.equal(adjusted(body, { api }).said, 'keep_alive', body)
    }
  })

  test('a request that only unloads is refused without the scope admin (335)', () => {
    for (const keep_alive of bothPolicies)
      for (const value of unloading)
        for (const rest of ['', ',"prompt":""', ',"messages":[]', ',"messages": [ ]', ',"prompt":null']) {
          const body = `{"model":"m","keep_alive":${value}${rest}}`
          assert.throws(() => adjusted(body, { callers: { keep_alive } }), refused('keep_alive'), body)
          assert.equal(adjusted(body, { isAdmin: true }).isUntouched, true)
        }
  })

  test('a keep_alive that is no duration is sent to the node, which refuses it (335)', () => {
    const body = '{"model":"m","keep_alive":"-1"}'
    assert.equal(adjusted(body, { callers: { keep_alive: 'caller' } }).body, body)
    assert.equal(adjusted(body).said, 'keep_alive')
    assert.equal(adjusted('{"model":"m","keep_alive":"1h30m"}').said, 'keep_alive')
  })

  test('_debug_render_only is refused by default, raw and template by policy', () => {
    assert.throws(() => adjusted('{"model":"m","_debug_render_only":true}'), refused('_debug_render_only'))
    adjusted('{"model":"m","raw":true,"template":"x"}')
    const callers = { raw: 'refuse', template: 'refuse' } as const
    assert.throws(() => adjusted('{"model":"m","raw":true}', { callers }), refused('raw'))
    assert.throws(
      () => adjusted('{"model":"m","template":"{{ .System }}"}', { callers }),
      refused('template'),
    )
  })

  test('a repeated or differently spelled field that the policy reads is refused', () => {
    for (const body of [
      '{"Keep_Alive":0}',
      '{"\u212aeep_alive":0}',
      '{"keep_alive":5,"keep_\\u0061live":0}',
      '{"Options":{}}',
      '{"options":{"num_ctx":1,"num_ctx":2}}',
      '{"options":{"NUM_GPU":1}}',
      '{"_DEBUG_render_only":true}',
    ])
      assert.throws(() => adjusted(body), ScanError, body)
    assert.throws(() => adjusted('{"MAX_tokens":1}', { api: 'openai_chat' }), ScanError)
    assert.throws(() => adjusted('{"Keep_Alive":0}', { api: 'openai_chat' }), ScanError)
    assert.doesNotThrow(() => adjusted('{"Num_Ctx":0}', { api: 'openai_chat' }))
  })

  test('an object in place of a number is refused', () => {
    for (const options of ['"num_gpu":{}', '"num_ctx":[1]'])
      assert.throws(() => adjusted(`{"options":{${options}}}`, { numCtx: 8192 }), /must not be an object/)
  })

  test('edits change no other field of any body', () => {
    const value = fc.jsonValue({ maxDepth: 2 })
    const key = fc
      .string()
      .filter((name) => !/^(keep_alive|options|raw|template|shift|model|stream|num_|_debug)/i.test(name))
    const others = fc.dictionary(key, value, { maxKeys: 3 })
    const wish = fc.record(
      { num_gpu: fc.nat(), num_ctx: fc.nat(), num_predict: fc.integer() },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(others, others, wish, fc.boolean(), fc.nat(3), (top, inner, wished, lasts, space) => {
        const options = lasts ? { ...inner, ...wished } : { ...wished, ...inner }
        const given = lasts
          ? { model: 'm', ...top, options, keep_alive: 9 }
          : { keep_alive: 9, options, ...top, model: 'm' }
        const { body } = adjusted(JSON.stringify(given, null, space), {
          numCtx: 8192,
          callers: { num_predict: 5 },
        })
        const { keep_alive: _out, ...kept } = given
        const { num_gpu: _gpu, ...left } = options
        const asked = options.num_predict ?? 0
        const num_predict = asked > 0 && asked <= 5 ? asked : 5
        assert.deepEqual(
          JSON.parse(body),
          JSON.parse(JSON.stringify({ ...kept, options: { ...left, num_ctx: 8192, num_predict } })),
        )
      }),
      { numRuns: 300 },
    )
  })
})

suite('the variant of a request', () => {
  const variant = (fields: object, sketch: Sketch = {}) =>
    adjusted(JSON.stringify({ model: 'm', ...fields }), sketch).variant

  test('is the canonical text of the load options, and of nothing else', () => {
    assert.equal(variant({ options: { temperature: 1, num_predict: 5 } }), '')
    assert.equal(
      variant({ options: { use_mmap: true, num_ctx: 8192, seed: 1 }, shift: false }),
      '{"num_ctx":8192,"shift":false,"use_mmap":true}',
    )
    assert.equal(variant({ options: { num_ctx: null, num_batch: '1' } }), '')
  })

  test('is that of the options as they are sent: pinned, capped or dropped', () => {
    assert.equal(variant({ options: { num_ctx: 4096, num_gpu: 3 } }, { numCtx: 8192 }), '{"num_ctx":8192}')
    const callers = { num_gpu: 'pass' } as const
    assert.equal(variant({ options: { num_gpu: 3 } }, { callers }), '{"num_gpu":3}')
    assert.equal(variant({ options: { num_gpu: -1 } }, { callers }), '')
    assert.equal(variant({ options: { num_ctx: 8192 } }, { api: 'openai_chat' }), '')
  })
})

suite('the most tokens of an answer', () => {
  const most = (fields: object, sketch: Sketch = {}) =>
    adjusted(JSON.stringify({ model: 'm', ...fields }), sketch).maxTokens

  test('are those the caller asks for, in the field of its API', () => {
    assert.equal(most({ options: { num_predict: 5 } }), 5)
    assert.equal(most({ max_tokens: 5 }, { api: 'openai_chat' }), 5)
    assert.equal(most({ max_tokens: 5 }, { api: 'anthropic_messages' }), 5)
    assert.equal(most({ max_output_tokens: 5 }, { api: 'openai_responses' }), 5)
  })

  test('are the cap when that is lower, or the caller set none', () => {
    const callers = { num_predict: 3 }
    assert.equal(most({ options: { num_predict: 5 } }, { callers }), 3)
    assert.equal(most({}, { callers }), 3)
    assert.equal(most({ options: { num_predict: 2 } }, { callers }), 2)
  })

  test('are unknown without a number above 0', () => {
    for (const num_predict of [undefined, null, -1, 0, '5', {}, []])
      assert.equal(most({ options: { num_predict } }), null, JSON.stringify(num_predict))
  })
})
