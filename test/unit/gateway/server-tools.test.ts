import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { type CallerPolicy, callersSchema } from '../../../lib/fleet/caller-options.ts'
import type { Api } from '../../../lib/fleet/request-spec.ts'
import { adjustOptions, namesFor } from '../../../lib/gateway/admission/request-options.ts'
import { applyEdits } from '../../../lib/gateway/body/json-edit.ts'
import { scan } from '../../../lib/gateway/body/json-fields.ts'
import { ProxyError } from '../../../lib/shared/errors.ts'
import { ScanError } from '../../../lib/shared/json/json-walk.ts'

/** The body that a node gets, and the list of changes. */
function adjusted(text: string, api: Api, callers: Partial<CallerPolicy> = {}) {
  const bytes = Buffer.from(text)
  const rules = { callers: callersSchema.parse(callers), isAdmin: false, numCtx: undefined }
  const { edits, adjusted: said } = adjustOptions(bytes, scan(bytes, ...namesFor(api)), api, rules)
  return { body: applyEdits(bytes, edits).toString(), said: said.join(', ') }
}

const apis = ['openai_chat', 'openai_responses', 'anthropic_messages'] as const
const withTools = (...tools: unknown[]) => JSON.stringify({ model: 'm', max_tokens: 9, tools })

suite('tools of a request', () => {
  const serverRun = [
    { type: 'web_search' },
    { type: 'web_search_20250305', name: 'web_search', max_uses: 5 },
    { type: 'web_search_preview_2025_03_11' },
    { type: 'web_fetch_20250910', name: 'web_fetch' },
    { type: 'code_execution_20250825', name: 'code_execution' },
    { type: 'code_interpreter', container: { type: 'auto' } },
    { type: 'mcp', server_label: 'x', server_url: 'https://evil.example' },
    { type: 'mcp_toolset', mcp_server_name: 'x' },
    { type: 'file_search', vector_store_ids: ['a'] },
    { type: 'image_generation' },
    { type: 'tool_search' },
    { type: 'tool_search', execution: 'server' },
    { type: 'tool_search_tool_regex_20251119', name: 'x' },
    { type: 'namespace', name: 'n', tools: [{ type: 'function', name: 'f' }, { type: 'web_search' }] },
    { type: 'FUNCTION', name: 'not a type of any vendor' },
    { type: 'a_type_of_tomorrow' },
  ]
  for (const tool of serverRun)
    test(`that a server runs are taken out and named: ${JSON.stringify(tool)} (353)`, () => {
      for (const api of apis) {
        const { body, said } = adjusted(withTools(tool), api)
        assert.deepEqual([JSON.parse(body).tools, said], [[], `tools.${tool.type}`])
      }
    })

  test('are found under any spelling of the names that a node reads (353)', () => {
    const spellings = [
      '{"model":"m","\\u0074ools":[{"type":"web_search"}]}',
      '{"model":"m","tool\\u0073":[{"\\u0074ype":"web\\u005fsearch"}]}',
      '{"model":"m","tools":[{"type":"namespace","\\u0074ools":[{"type":"web_search"}]}]}',
    ]
    for (const api of apis)
      for (const text of spellings) {
        const { body, said } = adjusted(text, api)
        assert.deepEqual(JSON.parse(body).tools, [], text)
        assert.match(said, /^tools\./)
      }
  })

  const callerRun = [
    { name: 'web_search', description: 'ours', input_schema: { type: 'object' } },
    { type: 'custom', name: 'f', input_schema: { type: 'web_search' } },
    { type: 'function', function: { name: 'web_search', parameters: { type: 'web_search' } } },
    { type: 'function', name: 'f', parameters: null },
    { type: null, name: 'f' },
    { type: '', name: 'f' },
    { type: 'bash_20250124', name: 'bash' },
    { type: 'text_editor_20250728', name: 'edit' },
    { type: 'local_shell' },
    { type: 'tool_search', execution: 'client' },
    { type: 'namespace', name: 'n', tools: [{ type: 'function', name: 'f' }] },
    { type: 7 },
    'no tool',
    null,
  ]
  test('that the caller runs, or the node refuses, stay byte for byte (353)', () => {
    for (const api of apis)
      for (const tool of callerRun) {
        const text = withTools(tool, tool)
        assert.deepEqual(adjusted(text, api), { body: text, said: '' }, JSON.stringify(tool))
      }
  })

  test('pass or are refused by policy (353)', () => {
    const text = withTools({ type: 'web_search' }, { type: 'function', name: 'f' })
    for (const api of apis) {
      assert.equal(adjusted(text, api, { server_tools: 'pass' }).body, text)
      const refuse = () => adjusted(text, api, { server_tools: 'refuse' })
      assert.throws(refuse, (error) => error instanceof ProxyError && error.status === 403)
      assert.throws(refuse, /field "tools\.web_search" is refused: an Ollama server would run it/)
      const harmless = withTools({ type: 'function', name: 'f' })
      assert.equal(adjusted(harmless, api, { server_tools: 'refuse' }).body, harmless)
    }
  })

  test('in another spelling are found or refused (353)', () => {
    const tools = (item: string, key = 'tools') => `{"model":"m","max_tokens":1,"${key}":[${item}]}`
    for (const item of ['{"type":"web\\u005fsearch"}', '{"t\\u0079pe":"web_search"}'])
      assert.deepEqual(JSON.parse(adjusted(tools(item), 'anthropic_messages').body).tools, [], item)
    for (const item of [
      '{"Type":"web_search"}',
      '{"type":"function","TYPE":"web_search"}',
      '{"type":"a","type":"b"}',
    ])
      assert.throws(() => adjusted(tools(item), 'anthropic_messages'), /"tools": field/, item)
    assert.throws(() => adjusted(tools('{"type":"web_search"}', 'Tools'), 'openai_responses'), ScanError)
    assert.throws(
      () => adjusted('{"tools":[],"tools":[{"type":"web_search"}]}', 'openai_responses'),
      ScanError,
    )
    const long = `{"type":"${'x'.repeat(10_000)}"}`
    assert.equal(adjusted(tools(long), 'openai_responses').said, 'tools.unknown')
    assert.equal(
      adjusted(tools('{"type":"a b\\r\\nset-cookie: x"}'), 'openai_responses').said,
      'tools.unknown',
    )
    const many = tools(Array(1001).fill('{}').join())
    assert.throws(() => adjusted(many, 'openai_responses'), /more than 1000 tools/)
    assert.equal(adjusted(tools(Array(1000).fill('{}').join()), 'openai_responses').said, '')
  })

  test('stay unchanged when others are removed, in any layout (353)', () => {
    const tool = fc.constantFrom<object>(
      { type: 'web_search' },
      { type: 'mcp' },
      { type: 'function', name: 'a,]' },
      { name: '[' },
    )
    fc.assert(
      fc.property(
        fc.array(tool, { maxLength: 7 }),
        fc.nat(2),
        fc.constantFrom(...apis),
        (tools, space, api) => {
          const text = JSON.stringify({ max_tokens: 1, tools, model: 'm', stream: true }, null, space)
          const { body } = adjusted(text, api, { num_predict: 5 })
          const kept = tools.filter(
            (each) => !['web_search', 'mcp'].includes((each as { type?: string }).type ?? ''),
          )
          assert.deepEqual(JSON.parse(body).tools, kept)
          assert.equal(JSON.parse(body).model, 'm')
        },
      ),
    )
  })
})
