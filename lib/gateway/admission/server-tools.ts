import type { CallerPolicy } from '../../fleet/caller-options.ts'
import { ProxyError } from '../../shared/errors.ts'
import { openBrace, openBracket, quote } from '../../shared/json/json-bytes.ts'
import { ScanError } from '../../shared/json/json-walk.ts'
import type { Edit } from '../body/json-edit.ts'
import { FieldNames, type Scanned, scan, valueText } from '../body/json-fields.ts'

/** The tools of a request that its node would run, not its caller. */
interface ServerTools {
  /** Their types, each once, in their order. */
  readonly types: readonly string[]
  /** What takes them out of the body. */
  readonly edits: readonly Edit[]
}

interface ToolChanges {
  readonly edits: readonly Edit[]
  /** As `x-llamero-adjusted` says them. */
  readonly names: readonly string[]
}

interface Span {
  readonly start: number
  readonly end: number
}

const toolNames = new FieldNames(['type', 'execution', 'tools'])
const maxTools = 1000
/** Of all tools: each is scanned again, at once. */
const maxToolBytes = 512 * 1024
const maxTypeBytes = 100

/**
 * Types of tools that callers run themselves: functions, and those for which a vendor wrote the schema. All others are
 * taken for the server's own: Ollama runs `web_search*` itself, with its account at ollama.com and with further chats that
 * no queue sees (middleware/anthropic.go, middleware/openai.go), and may come to run more.
 */
const callerRun =
  /^(?:|function|custom|(?:bash|text_editor|computer|memory)_\d{8}|computer|computer_use_preview|local_shell|apply_patch)$/

/** What callers write into a type is echoed in a header. */
const plainType = /^[\w.-]{1,50}$/
const maxNamedTypes = 8

/**
 * What the policy does to the tools of a request that its node would run.
 *
 * @throws ProxyError `option_refused` where the policy says so, `bad_json`.
 */
export function serverToolChanges(
  bytes: Buffer,
  body: Scanned,
  policy: CallerPolicy['server_tools'],
): ToolChanges {
  if (policy === 'pass') return { edits: [], names: [] }
  const { types, edits } = serverToolsIn(bytes, body)
  const names = types
    .slice(0, maxNamedTypes)
    .map((type) => `tools.${plainType.test(type) ? type : 'unknown'}`)
  if (policy === 'refuse' && names.length > 0) {
    const reason =
      'an Ollama server would run it by itself, with its own account; run the tool in the caller, as a function'
    throw new ProxyError('option_refused', { field: names.join(', '), reason })
  }
  return { edits, names: [...new Set(names)] }
}

/**
 * Finds the tools in `tools` of a request that are not run by the caller.
 *
 * @throws ProxyError `bad_json` for more than 1,000 tools, or a tool with a field that Go would read in another way.
 */
function serverToolsIn(bytes: Buffer, body: Scanned): ServerTools {
  const field = body.fields.get('tools')
  if (!field || bytes[field.start] !== openBracket) return { types: [], edits: [] }
  const tools = body.prompt.of(['tools'])
  if (tools.length > maxTools) throw new ProxyError('bad_json', { reason: `more than ${maxTools} tools` })
  const size = (tools.at(-1)?.end ?? 0) - field.start
  if (size > maxToolBytes)
    throw new ProxyError('bad_json', { reason: `"tools" is larger than ${maxToolBytes} bytes` })
  const types = tools.map((tool) => serverTypeOf(bytes, tool))
  return {
    types: [...new Set(types.filter((type) => type !== null))],
    edits: withoutItems(tools, (index) => types[index] !== null),
  }
}

/** The type of a tool that the server runs; null when the caller runs it, or the node must refuse it. */
function serverTypeOf(bytes: Buffer, { start, end }: Span, isMember = false): string | null {
  if (bytes[start] !== openBrace) return null
  const item = bytes.subarray(start, end)
  const tool = scanTool(item)
  const type = textOf(item, tool, 'type')
  if (type === null) return null
  // OpenAI's tool_search may be the client's, and a namespace is what its members are (openai/responses.go, convertTools).
  if (type === 'tool_search' && textOf(item, tool, 'execution') === 'client') return null
  if (type === 'namespace' && !isMember)
    return tool.prompt.of(['tools']).some((each) => serverTypeOf(item, each, true) !== null) ? type : null
  return callerRun.test(type) ? null : type
}

function scanTool(item: Buffer): Scanned {
  try {
    return scan(item, toolNames)
  } catch (error) {
    if (error instanceof ScanError)
      throw new ProxyError('bad_json', { reason: `in "tools": ${error.message}` })
    throw error
  }
}

/** A string; "" when it is absent or null, null when it is of another type. */
function textOf(bytes: Buffer, { fields }: Scanned, name: string): string | null {
  const field = fields.get(name)
  if (!field) return ''
  if (bytes[field.start] !== quote) return valueText(bytes, field) === 'null' ? '' : null
  return field.end - field.start > maxTypeBytes ? 'unknown' : (JSON.parse(valueText(bytes, field)) as string)
}

/** Takes items out of a list, each with one comma. */
function withoutItems(items: readonly Span[], isRemoved: (index: number) => boolean): Edit[] {
  const edits: Edit[] = []
  const lastKept = items.findLastIndex((_item, index) => !isRemoved(index))
  for (const [index, { start }] of items.entries()) {
    const next = items[index + 1]
    if (index < lastKept && next && isRemoved(index)) edits.push({ start, end: next.start, text: '' })
  }
  const [first, last] = [items[lastKept + 1], items.at(-1)]
  if (first && last) edits.push({ start: items[lastKept]?.end ?? first.start, end: last.end, text: '' })
  return edits
}
