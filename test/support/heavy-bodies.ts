import type { Api } from '../../lib/fleet/request-spec.ts'

interface HeavyBody {
  readonly api: Api
  /** What stands before, between and after what is repeated. */
  readonly around: readonly [string, string]
  readonly piece: string
}

const chat = (before: string, piece: string, after: string): HeavyBody => ({
  api: 'ollama_chat',
  around: [`{"model":"m",${before}`, `${after}}`],
  piece,
})
const openai = (before: string, piece: string, after: string): HeavyBody => ({
  ...chat(before, piece, after),
  api: 'openai_chat',
})

/** Bodies that are heavy to check, by what there is much of in them. */
const kinds: Readonly<Record<string, HeavyBody>> = {
  numbers: chat('"x":[', '1,', '1]'),
  'numbers in the options': chat('"options":{"x":[', '1,', '1]}'),
  'empty objects': chat('"x":[', '{},', '{}]'),
  'empty messages': chat('"messages":[', '{},', '{}]'),
  'short fields in objects': chat('"x":[', '{"a":1},', '{}]'),
  'short texts': chat('"prompt":[', '"",', '""]'),
  words: chat('"x":[', 'null,', 'null]'),
  'white space between': chat('"x":[', '1 , ', '1]'),
  'white space alone': chat('"x":[', ' ', '1]'),
  'open brackets': chat('"x":[', '[', ']'),
  escapes: chat('"prompt":"', '\\n', '"'),
  'escaped letters': chat('"prompt":"', '\\u0041', '"'),
  'letters beyond ASCII': chat('"prompt":"', 'é', '"'),
  'an image': chat('"images":["', 'QUJD', '"]'),
  'a long name of a field': chat('"', 'k', '":1'),
  'many fields': chat('', '"a":1,', '"b":1'),
  'fields with escapes': chat('', '"\\u0061b":1,', '"b":1'),
  'a long model': chat('"y":1,"model":"', 'm', '"'),
  'a long keep_alive': chat('"keep_alive":"', '1', 's"'),
  'a long template': chat('"template":"', 'x', '"'),
  'a long option': chat('"options":{"num_ctx":"', '1', '"}'),
  'a long number': chat('"x":', '1', ''),
  'small tools': openai('"tools":[', '{},', '{}]'),
  'tools of small things': openai('"tools":[{"type":"function","x":[', '1,', '1]}]'),
  'tools in tools': openai('"tools":[{"type":"namespace","tools":[', '{"type":"namespace"},', '{}]}]'),
}

/** Of about `size` bytes each. */
export function heavyBody(name: string, size: number): { readonly api: Api; readonly bytes: Buffer } {
  const { api, around, piece } = kinds[name] ?? chat('', '', '')
  const [before, after] = around
  const bytes = Buffer.alloc(before.length + after.length + size, piece)
  const inner = Math.floor(size / Buffer.byteLength(piece)) * Buffer.byteLength(piece)
  bytes.write(before, 0)
  Buffer.alloc(inner, piece).copy(bytes, before.length)
  bytes.write(after, before.length + inner)
  return { api, bytes: bytes.subarray(0, before.length + inner + after.length) }
}

export const heavyBodies = Object.keys(kinds)
