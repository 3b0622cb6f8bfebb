import fc from 'fast-check'
import { chat } from './wire-gateway.ts'

/** Bytes sent in pieces. */
export type Pieces = readonly Buffer[]

const oddText = fc.constantFrom(
  '',
  '\0',
  '\r',
  '\n',
  '\r\n',
  ' ',
  '\t',
  '\u00e9',
  '%00',
  '../',
  '__proto__',
  'x'.repeat(9000),
)
const anyText = fc.oneof(oddText, fc.string({ maxLength: 20 }))

/** Well-formed at heart, with up to three bytes or ranges changed. */
function mutated(arbitrary: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const mutation = fc.tuple(
    fc.constantFrom('insert', 'remove', 'replace', 'repeat'),
    fc.nat(),
    fc.nat({ max: 20 }),
    fc.oneof(
      fc.uint8Array({ maxLength: 4 }),
      oddText.map((text) => Buffer.from(text, 'latin1')),
    ),
  )
  return fc.tuple(arbitrary, fc.array(mutation, { maxLength: 3 })).map(([bytes, mutations]) =>
    mutations.reduce((current, [kind, place, length, inserted]) => {
      const at = place % (current.length + 1)
      const before = current.subarray(0, at)
      const range = current.subarray(at, at + length)
      const rest = current.subarray(at + length)
      switch (kind) {
        case 'insert':
          return Buffer.concat([before, inserted, range, rest])
        case 'remove':
          return Buffer.concat([before, rest])
        case 'replace':
          return Buffer.concat([before, inserted, rest])
        default:
          return Buffer.concat([before, range, range, range, rest])
      }
    }, bytes),
  )
}

/** The bytes, cut into a few pieces. */
function inPieces(arbitrary: fc.Arbitrary<Buffer>): fc.Arbitrary<Pieces> {
  return fc.tuple(arbitrary, fc.array(fc.nat(), { maxLength: 4 })).map(([bytes, cuts]) => {
    const ends = [...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
    return ends.map((end, n) => bytes.subarray(ends[n - 1] ?? 0, end)).filter(({ length }) => length > 0)
  })
}

const body = fc.oneof(
  fc.constant(chat),
  fc.constant(chat.replace('false', 'true')),
  fc.constantFrom(
    '',
    '{}',
    '[',
    '{"model":"m","model":"n"}',
    '{"model":"__proto__"}',
    `{"model":"m","x":${'['.repeat(70)}`,
  ),
  fc.object({ maxDepth: 2 }).map((value) => JSON.stringify({ model: 'm', ...value })),
  fc.string({ maxLength: 200 }),
)
const chunks = (text: string) =>
  `${Buffer.byteLength(text).toString(16)};a=b\r\n${text}\r\n0\r\nX-Trailer: 1\r\n\r\n`
const framings: ((text: string) => string)[] = [
  (text) => `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  (text) => `Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`,
  (text) => `Transfer-Encoding: chunked\r\n\r\n${chunks(text)}`,
  (text) => `Transfer-Encoding: xchunked\r\n\r\n${chunks(text)}`,
  (text) => `Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n${chunks(text)}`,
  (text) => `Content-Length: ${text.length + 3}\r\n\r\n${text}`,
  (text) => `Content-Length: ${text.length >> 1}\r\n\r\n${text}`,
  (text) => `Transfer-Encoding: chunked\r\n\r\nzz\r\n${text}`,
  (text) => `\r\n${text}`,
]
const header = fc.oneof(
  fc.constantFrom(
    'Host: y',
    'Connection: close',
    'Connection: Content-Length, Host, X-Request-Id',
    'Expect: 100-continue',
    'Expect: x',
    'Authorization: Bearer llm_wrong',
    'Authorization: Bearer other',
    'x-api-key: other',
    'Upgrade: websocket',
    'Upgrade: h2c',
    'Content-Encoding: gzip',
    'Content-Type: text/plain',
    'X-Request-Id: my-request-42',
    'User-Agent: ollama/1 \u0080',
    'Accept: \t',
    'Traceparent: \u007f',
    'TE: trailers',
  ),
  fc
    .tuple(fc.constantFrom('User-Agent', 'Accept', 'Content-Type', 'X', '__proto__', ''), anyText)
    .map(([name, value]) => `${name}: ${value}`),
)
const requestHead = fc
  .tuple(
    fc.oneof(
      { weight: 4, arbitrary: fc.constant('POST') },
      {
        weight: 1,
        arbitrary: fc.constantFrom(
          'GET',
          'HEAD',
          'OPTIONS',
          'DELETE',
          'TRACE',
          'CONNECT',
          'PRI',
          'FOO',
          'post',
          '',
        ),
      },
    ),
    fc.oneof(
      { weight: 3, arbitrary: fc.constant('/api/chat') },
      {
        weight: 2,
        arbitrary: fc.constantFrom(
          '/',
          '/api/tags',
          '/api/version',
          '/v1/chat/completions',
          '//api//chat',
          '/api/pull',
          '*',
          'http://x/api/chat',
          '/%zz',
        ),
      },
      { weight: 1, arbitrary: anyText },
    ),
    fc.oneof(
      { weight: 8, arbitrary: fc.constant('HTTP/1.1') },
      { weight: 1, arbitrary: fc.constantFrom('HTTP/1.0', 'HTTP/2.0', 'HTTP/0.9', 'http/1.1', '') },
    ),
    fc.array(header, { maxLength: 4 }),
  )
  .map(
    ([method, target, version, headers]) =>
      `${[`${method} ${target} ${version}`, 'Host: x', ...headers].join('\r\n')}\r\n`,
  )
const request = fc
  .tuple(requestHead, fc.constantFrom(...framings), body)
  .map(([head, frame, text]) => Buffer.from(head + frame(text), 'latin1'))

/** What a hostile caller sends on one connection: up to three requests, changed here and there. */
export const hostileCall: fc.Arbitrary<Pieces> = inPieces(
  mutated(fc.array(request, { minLength: 1, maxLength: 3 }).map((requests) => Buffer.concat(requests))),
)

/** What a hostile node does with one request. */
export interface HostileAnswer {
  readonly pieces: Pieces
  readonly ending: 'keep' | 'close' | 'reset'
  /** Known only of an answer that nothing was done to, or that was cut short. */
  readonly isWhole: boolean | undefined
}

/** As the last line has them: numbers that JSON knows and no count is, and what is no number at all. */
const counts = fc
  .dictionary(
    fc.constantFrom(
      'prompt_eval_count',
      'eval_count',
      'total_duration',
      'load_duration',
      'prompt_eval_duration',
      'eval_duration',
    ),
    fc.constantFrom(
      '1e999',
      '-1e999',
      '1e300',
      '1e-300',
      '-5',
      '0',
      '0.5',
      '7',
      '9007199254740993',
      'true',
      '"5"',
      'null',
    ),
  )
  .map((fields) => Object.entries(fields).map(([name, number]) => `,"${name}":${number}`))
const lines = fc
  .tuple(fc.array(fc.string({ maxLength: 30 }), { maxLength: 4 }), counts)
  .map(([words, numbers]) => [
    ...words.map((content) => `${JSON.stringify({ message: { content }, done: false })}\n`),
    `{"done":true${numbers.join('')}}\n`,
  ])
const answerForms = ['whole', 'stream with a length', 'stream in chunks'] as const
const wholeAnswer = fc.tuple(lines, fc.constantFrom(...answerForms)).map(([texts, form]) => {
  const sent = form === 'whole' ? texts.slice(-1) : texts
  const type = form === 'whole' ? 'json' : 'x-ndjson'
  const head = `HTTP/1.1 200 OK\r\nContent-Type: application/${type}\r\n`
  if (form !== 'stream in chunks') {
    const body = sent.join('')
    return Buffer.from(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
  }
  const framed = sent.map((text) => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`)
  return Buffer.from(`${head}Transfer-Encoding: chunked\r\n\r\n${framed.join('')}0\r\n\r\n`)
})
const oddAnswer = fc
  .tuple(
    fc.constantFrom('HTTP/1.1', 'HTTP/1.0', 'HTTP/0.9', 'HTTP/2.0', 'ICY', ''),
    fc.constantFrom(
      '200 OK',
      '204 x',
      '304 x',
      '099 x',
      '999 x',
      '1000 x',
      '101 x',
      '103 x',
      '404 x',
      '500 x',
      '503 x',
      '200',
      '',
    ),
    fc.array(
      fc.constantFrom(
        'Content-Type: application/json',
        'Content-Type: application/x-ndjson',
        'Content-Type: text/event-stream',
        'Connection: close',
        'Keep-Alive: timeout=0',
        'Location: http://127.0.0.1:1/',
        'Set-Cookie: a=b',
        'Upgrade: x',
        'Retry-After: -1',
        'Retry-After: soon',
        `A: ${'a'.repeat(20_000)}`,
        'Content-Type: a\u0080b',
        'Cache-Control: \u007f',
        'no colon',
      ),
      { maxLength: 3 },
    ),
    fc.constantFrom(...framings),
    body,
  )
  .map(([version, status, headers, frame, text]) =>
    Buffer.from(`${[`${version} ${status}`, ...headers].join('\r\n')}\r\n${frame(text)}`, 'latin1'),
  )

const ending = fc.constantFrom('keep', 'close', 'reset')

export const hostileAnswer: fc.Arbitrary<HostileAnswer> = fc.oneof(
  inPieces(wholeAnswer).map((pieces) => ({ pieces, ending: 'keep' as const, isWhole: true })),
  fc.tuple(wholeAnswer, fc.nat(), ending).chain(([bytes, cut, end]) =>
    inPieces(fc.constant(bytes.subarray(0, cut % bytes.length))).map((pieces) => ({
      pieces,
      ending: end,
      isWhole: false,
    })),
  ),
  fc
    .tuple(inPieces(mutated(fc.oneof(wholeAnswer, oddAnswer))), ending)
    .map(([pieces, end]) => ({ pieces, ending: end, isWhole: undefined })),
)
