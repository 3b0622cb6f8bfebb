export const modelName = 'bench:latest'

/** How the bench's node shall answer: that many chunks and a last one, the first at once, each other after `chunk_ms`. */
export interface ChatOptions {
  readonly num_predict: number
  readonly chunk_ms: number
}

/** A chat request with a body of about 300 bytes, as bytes; without options it asks for a whole answer, not a stream. */
export function chat(options?: ChatOptions): Buffer {
  const body = JSON.stringify({
    model: modelName,
    messages: [
      { role: 'system', content: 'You are a terse assistant. Answer in one word whenever you can.' },
      {
        role: 'user',
        content: 'Is a proxy between a caller and a node worth the microseconds that it costs?',
      },
    ],
    stream: options !== undefined,
    options: { temperature: 0.7, ...options },
  })
  const head = [
    'POST /api/chat HTTP/1.1',
    'host: localhost',
    'user-agent: ollama-js/0.6.4',
    'accept: application/json',
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
  ]
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body}`)
}
