/**
 * An answer that is an error of the simulated node: its status and text go on the wire as Ollama would send them, so
 * they are no part of the proxy's own catalogue.
 */
export class Refusal extends Error {
  override readonly name: string = 'Refusal'
  readonly status: number

  constructor(status: number, text: string) {
    super(text)
    this.status = status
  }
}

/** The runner failed while computing: 500 before the first byte, in-band after it, 400 on embed (docs/ollama.md#answers). */
export class RunnerFailure extends Refusal {
  override readonly name = 'RunnerFailure'

  constructor(text: string) {
    super(500, text)
  }
}

/** An error of the child process. Its body becomes the text: JSON inside JSON (ollama: llm/llama_server.go, StatusError). */
export function childError(status: number, message: string): Refusal {
  const type =
    status < 500 ? 'invalid_request_error' : status === 501 ? 'not_supported_error' : 'server_error'
  return new Refusal(status, JSON.stringify({ error: { code: status, message, type } }))
}

/** Two spaces, and no Retry-After (docs/ollama.md#answers). */
export const busyText = 'server busy, please try again.  maximum pending requests exceeded'
