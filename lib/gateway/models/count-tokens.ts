import type { Snapshot } from '../../fleet/snapshot.ts'
import { ProxyError } from '../../shared/errors.ts'
import { promptTokens } from '../admission/conversation.ts'
import { chooseModel } from '../admission/model-routing.ts'
import type { Scanned } from '../body/json-fields.ts'
import type { RequestBodies } from '../body/request-bodies.ts'
import { scanBody } from '../body/scan-body.ts'
import type { Caller } from '../http/authenticate.ts'
import { sendJson } from '../http/error-response.ts'
import type { Exchange } from '../http/exchange.ts'
import { asObject, parseObject } from '../response/ollama-json.ts'

/** Ollama's estimate for `input_tokens` at the start of a response (docs/ollama.md#answers). */
const charactersPerToken = 4
/** A larger body is not parsed: that would block the event loop. */
const maxParsedBytes = 1024 * 1024
const maxParsedValues = 5000

/**
 * Answers `/v1/messages/count_tokens`, which Ollama lacks and clients of Anthropic use, with an estimate, as its
 * header says. @throws ProxyError `bad_json` and those of `chooseModel`.
 */
export function countTokens(
  exchange: Exchange,
  caller: Caller,
  bodies: RequestBodies,
  snapshot: Snapshot,
): Promise<void> {
  return bodies.withWhole(exchange, caller, snapshot.config, (bytes) =>
    answer(exchange, caller, bytes, snapshot),
  )
}

async function answer(exchange: Exchange, caller: Caller, bytes: Buffer, snapshot: Snapshot): Promise<void> {
  const scanned = await scanBody(bytes, [], exchange.signal)
  const { model } = scanned
  if (!model) throw new ProxyError('missing_model')
  exchange.trace.model = chooseModel(model.value, caller, snapshot).model
  const body = JSON.stringify({ input_tokens: estimate(bytes, scanned) })
  sendJson(exchange.response, 200, body, {
    'x-request-id': exchange.publicId,
    'x-llamero-estimate': 'true',
  })
  exchange.trace.outcome = 'ok'
}

/** Estimated tokens of the prompt. The body was scanned, which bounds its depth. */
function estimate(bytes: Buffer, { values, prompt }: Scanned): number {
  const mayParse = bytes.length <= maxParsedBytes && values <= maxParsedValues
  const asked = mayParse ? parseObject(bytes.toString('utf8')) : null
  if (!asked) return Math.max(1, promptTokens(prompt))
  const characters = charactersOf([asked['system'], asked['messages'], asked['tools']])
  return Math.max(1, Math.floor(characters / charactersPerToken))
}

/** Characters of all texts and of tool JSON. Image data does not count. */
function charactersOf(value: unknown): number {
  if (typeof value === 'string') return value.length
  if (Array.isArray(value)) return value.reduce((sum: number, each) => sum + charactersOf(each), 0)
  return Object.entries(asObject(value) ?? {}).reduce((sum, field) => sum + charactersOfField(field), 0)
}

function charactersOfField([name, value]: [string, unknown]): number {
  if (name === 'type' || name === 'source') return 0
  return name === 'input_schema' || name === 'input' ? JSON.stringify(value).length : charactersOf(value)
}
