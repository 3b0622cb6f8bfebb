import type { CallerPolicy } from '../../fleet/caller-options.ts'
import { ProxyError } from '../../shared/errors.ts'
import { openBrace, openBracket, quote } from '../../shared/json/json-bytes.ts'
import { ScanError } from '../../shared/json/json-walk.ts'
import { FieldNames } from '../body/field-names.ts'
import type { Edit } from '../body/json-edit.ts'
import { type Scanned, scan, valueText } from '../body/json-fields.ts'

/** Tools of a request that its node, not its caller, would run. */
interface ServerTools {
  /** Their types, without repetition, in order. */
  readonly types: readonly string[]
  /** The edits that remove them. */
  readonly edits: readonly Edit[]
}

interface ToolChanges {
  readonly edits: readonly Edit[]
  /** As `x-llamero-adjusted` lists them. */
  readonly names: readonly string[]
}

interface Span {
  readonly start: number
  readonly end: number
}

const toolNames = new FieldNames(['type', 'execution', 'tools'])
const maxTools = 1000
/** Bytes of all tools together: each is scanned again, in one turn. */
const maxToolBytes = 512 * 1024
const maxTypeBytes = 100

/**
 * Types of tools that callers run: functions, and tools with a schema by a vendor. All others count as server tools:
 * Ollama runs `web_search*` itself, with its account at ollama.com and with further chats outside the queue
 * (middleware/anthropic.go, middleware/openai.go), and may run more in future.
 */
const callerRun =
  /^(?:|function|custom|(?:bash|text_editor|computer|memory)_\d{8}|computer|computer_use_preview|local_shell|apply_patch)$/

/** The type is written by the caller and copied into a header. */
const plainType = /^[\w.-]{1,50}$/
const maxNamedTypes = 8

/**
 * Applies the policy to the server tools of a request.
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
 * Finds the server tools in `tools` of a request.
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

/** The type of a server tool; null when the caller runs it, or the node refuses it. */
function serverTypeOf(bytes: Buffer, { start, end }: Span, isMember = false): string | null {
  if (bytes[start] !== openBrace) return null
  const item = bytes.subarray(start, end)
  const tool = scanTool(item)
  const type = textOf(item, tool, 'type')
  if (type === null) return null
  // OpenAI's tool_search may run on the client; a namespace is as its members are (openai/responses.go,
  // convertTools).
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

/** A string; "" when absent or null, null when of another type. */
function textOf(bytes: Buffer, { fields }: Scanned, name: string): string | null {
  const field = fields.get(name)
  if (!field) return ''
  if (bytes[field.start] !== quote) return valueText(bytes, field) === 'null' ? '' : null
  return field.end - field.start > maxTypeBytes ? 'unknown' : (JSON.parse(valueText(bytes, field)) as string)
}

/** Removes items from a list, each with one comma. */
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
