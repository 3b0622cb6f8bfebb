import { type Agent, type IncomingMessage, request } from 'node:http'

/** A chat API with a strict reader of its answers, which uses no client library. */
export interface Dialect {
  readonly path: string
  body(question: Question): object
  /** The text of a whole answer. */
  whole(answer: Json): unknown
  /** The frames of a stream; the last may be half of one. */
  frames(text: string): readonly string[]
  frame(frame: string): Frame
}

export interface Question {
  readonly model: string
  readonly stream: boolean
  /** How many words the answer may have. */
  readonly words: number
}

interface Frame {
  readonly kind: 'text' | 'end' | 'error' | 'broken'
  readonly text: string
}

// biome-ignore lint/suspicious/noExplicitAny: answers are read field by field, and every absent one is a wrong answer
type Json = any

/** What a caller got: `complete` exactly as it should be, `error` begun and ended in an explicit error, else what is wrong. */
export type Verdict = 'complete' | 'error' | 'refused' | `wrong: ${string}`

export interface Answer {
  /** No byte arrived for `longestMs`. */
  readonly hung: boolean
  readonly status: number
  readonly text: string
  /** The HTTP message came to its proper end. */
  readonly ended: boolean
  /** As the header says; null when it does not. */
  readonly attempts: number | null
}

/** Every wait within has a limit, and this is more than their sum. */
const longestMs = 60_000

const messages = [{ role: 'user', content: 'count' }]

export const dialects: readonly Dialect[] = [
  native('/api/chat', { messages }, (answer) => answer.message?.content),
  native('/api/generate', { prompt: 'count' }, (answer) => answer.response),
  {
    path: '/v1/chat/completions',
    body: ({ model, stream, words }) => ({ model, stream, messages, max_tokens: words }),
    whole: (answer) => answer.choices?.[0]?.message?.content,
    frames: eventsOf,
    frame: (frame) => {
      if (frame === 'data: [DONE]') return { kind: 'end', text: '' }
      return read(frame.replace(/^data: /, ''), (json) => ({
        kind: json.error ? 'error' : 'text',
        text: json.choices?.[0]?.delta?.content ?? '',
      }))
    },
  },
  {
    path: '/v1/messages',
    body: ({ model, stream, words }) => ({ model, stream, messages, max_tokens: words }),
    whole: (answer) => answer.content?.[0]?.text,
    frames: eventsOf,
    frame: (frame) =>
      read(frame.replace(/^event: \w+\ndata: /, ''), (json) => ({
        kind: json.type === 'error' ? 'error' : json.type === 'message_stop' ? 'end' : 'text',
        text: json.delta?.text ?? '',
      })),
  },
]

function native(path: string, question: object, said: (answer: Json) => unknown): Dialect {
  return {
    path,
    body: ({ model, stream, words }) => ({ model, stream, options: { num_predict: words }, ...question }),
    whole: (answer) => (answer.done === true ? said(answer) : undefined),
    frames: (text) => text.split('\n').filter((line) => line !== ''),
    frame: (line) =>
      read(line, (json) => ({
        kind: json.error ? 'error' : json.done ? 'end' : 'text',
        text: String(said(json) ?? ''),
      })),
  }
}

function eventsOf(text: string): string[] {
  return text.split('\n\n').filter((event) => event.trim() !== '')
}

function read(text: string, frameOf: (json: Json) => Frame): Frame {
  try {
    return frameOf(JSON.parse(text))
  } catch {
    return { kind: 'broken', text: '' }
  }
}

/** Asks once. Never rejects: a connection that breaks is an answer that did not end. */
export function ask(
  url: string,
  { path, body }: Dialect,
  question: Question,
  agent: Agent,
  begun: () => void,
): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>()
  const signal = AbortSignal.timeout(longestMs)
  let head: IncomingMessage | null = null
  let text = ''
  const settle = (ended: boolean) => {
    const attempts = head?.headers['x-llamero-attempts']
    resolve({
      hung: signal.aborted,
      status: head?.statusCode ?? 0,
      text,
      ended,
      attempts: attempts === undefined ? null : Number(attempts),
    })
  }
  const asking = request(url + path, { method: 'POST', agent, signal }, (answer) => {
    head = answer
    begun()
    answer.setEncoding('utf8')
    answer.on('data', (chunk: string) => {
      text += chunk
    })
    answer.on('error', () => {})
    answer.on('close', () => settle(answer.complete))
  })
  asking.on('error', () => settle(false))
  asking.end(JSON.stringify(body(question)))
  return promise
}

/** Judges an answer whose text should be `expected`, to the last character. */
export function judge(dialect: Dialect, { stream }: Question, answer: Answer, expected: string): Verdict {
  if (answer.hung) return 'wrong: it hangs'
  if (answer.status === 0) return 'wrong: no answer'
  if (answer.status !== 200) return 'refused'
  if (!stream) return judgeWhole(dialect, answer, expected)
  const frames = dialect.frames(answer.text).map((frame) => dialect.frame(frame))
  const said = frames.map(({ text }) => text).join('')
  const last = frames.at(-1)?.kind
  if (frames.slice(0, -1).some(({ kind }) => kind === 'end' || kind === 'error'))
    return 'wrong: it goes on after its end'
  if (last === 'end') {
    if (!answer.ended) return 'wrong: cut after its end'
    return said === expected ? 'complete' : 'wrong: it says something else'
  }
  if (last !== 'error') return answer.ended ? 'wrong: silently truncated' : 'wrong: cut without a word'
  if (!expected.startsWith(said)) return 'wrong: it says something else'
  // An event before the first word, such as `message_start`, begins the answer: no other node can give it after that.
  return frames.length === 1 ? 'refused' : 'error'
}

function judgeWhole({ whole }: Dialect, { text, ended }: Answer, expected: string): Verdict {
  if (!ended) return 'wrong: cut without a word'
  try {
    return whole(JSON.parse(text)) === expected ? 'complete' : 'wrong: it says something else'
  } catch {
    return 'wrong: it is no JSON'
  }
}
