import assert from 'node:assert/strict'
import { defaultConfig } from '../../lib/fleet/config.ts'
import { findEndpoint } from '../../lib/gateway/http/find-endpoint.ts'

/** An answer as a caller saw it. */
export interface SeenAnswer {
  readonly status: number
  readonly head: string
  /** Without its framing. */
  readonly body: string
  /** Ended as its framing promised. */
  readonly isWhole: boolean
}

const answerHead = /^HTTP\/1\.1 (\d{3}) [\x20-\x7e]+\r\n((?:[\w-]+:[^\r\n\0]*\r\n)*)\r\n/
const requestHead = /^POST (\/\S*) HTTP\/1\.1\r\n((?:[\w-]+:[^\r\n\0]*\r\n)*)\r\n/

/**
 * Reads what came back on a connection, strictly. The last answer may be cut off.
 *
 * @param mayLackBodies one of the requests was a HEAD.
 * @throws AssertionError for bytes that are no answer.
 */
export function readAnswers(bytes: string, mayLackBodies = false): SeenAnswer[] {
  const answers: SeenAnswer[] = []
  for (let rest = bytes; rest !== ''; ) {
    const match = answerHead.exec(rest)
    if (!match && isHeadCut(rest)) break
    assert(match, `no answer: ${JSON.stringify(rest.slice(0, 300))}`)
    const [head, code, headers = ''] = match
    const status = Number(code)
    const after = rest.slice(head.length)
    const lacksBody = status < 200 || status === 204 || status === 304
    const skipped = lacksBody || (mayLackBodies && (after === '' || after.startsWith('HTTP/1.1 ')))
    const { body, length, isWhole } = skipped
      ? { body: '', length: 0, isWhole: true }
      : readBody(headers, after)
    answers.push({ status, head, body, isWhole })
    rest = after.slice(length)
  }
  return answers
}

function isHeadCut(rest: string): boolean {
  return !rest.includes('\r\n\r\n') && 'HTTP/1.1 '.startsWith(rest.slice(0, 9))
}

interface Body {
  readonly body: string
  /** Of its bytes with their framing. */
  readonly length: number
  readonly isWhole: boolean
}

function readBody(headers: string, after: string): Body {
  const lengths = [...headers.matchAll(/^content-length: *(\d+)\r$/gim)].map(([, text]) => Number(text))
  const isChunked = /^transfer-encoding: chunked\r$/im.test(headers)
  assert(lengths.length + Number(isChunked) <= 1, `two framings: ${headers}`)
  if (isChunked) return readChunks(after)
  const length = Math.min(lengths[0] ?? after.length, after.length)
  return { body: after.slice(0, length), length, isWhole: length === (lengths[0] ?? length) }
}

function readChunks(text: string): Body {
  let body = ''
  for (let at = 0; ; ) {
    const [line, digits = ''] = /^([0-9a-f]+)\r\n/i.exec(text.slice(at, at + 20)) ?? []
    if (line === undefined) {
      assert(
        text.length - at < 20 && /^[0-9a-f]*\r?$/i.test(text.slice(at)),
        `no chunk: ${JSON.stringify(text.slice(at, at + 100))}`,
      )
      return { body, length: text.length, isWhole: false }
    }
    const size = Number.parseInt(digits, 16)
    const from = at + line.length
    at = from + size + 2
    body += text.slice(from, from + size)
    if (at > text.length) return { body, length: text.length, isWhole: false }
    assert.equal(text.slice(at - 2, at), '\r\n', 'a chunk does not end')
    if (size === 0) return { body, length: at, isWhole: true }
  }
}

const ours = new Set([
  ...['host', 'connection', 'content-length', 'x-request-id', 'via'],
  ...['accept', 'content-type', 'user-agent', 'traceparent', 'tracestate'],
])

/** Whether a node answers at all is asked over connections of their own. */
const versionCheck = /^GET \/api\/version HTTP\/1\.1\r\n(host|x-request-id|via|connection): /i

/** Asserts that the bytes of one connection to a node are requests of our making; the last may be cut off. */
export function assertOurRequests(bytes: string): void {
  if (versionCheck.test(bytes)) {
    assert.equal(bytes.indexOf('\r\n\r\n'), bytes.length - 4)
    return
  }
  for (let rest = bytes; rest !== ''; ) {
    const match = requestHead.exec(rest)
    assert(match, `not of our making: ${JSON.stringify(rest.slice(0, 300))}`)
    const [head, path = '', headers = ''] = match
    assert(['forward', 'show'].includes(findEndpoint('POST', path, defaultConfig).action), path)
    const names = [...headers.matchAll(/^([\w-]+):/gm)].map(([, name = '']) => name.toLowerCase())
    assert.deepEqual(
      names.filter((name) => !ours.has(name) || names.indexOf(name) !== names.lastIndexOf(name)),
      [],
    )
    const length = Number(/^content-length: (\d+)\r$/im.exec(headers)?.[1])
    const body = rest.slice(head.length, head.length + length)
    if (body.length === length)
      assert.equal(typeof JSON.parse(Buffer.from(body, 'latin1').toString()), 'object')
    rest = rest.slice(head.length + length)
  }
}
