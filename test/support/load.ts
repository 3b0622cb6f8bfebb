/** Between two requests of a worker: the load shall be steady, not saturate the machine that measures it. */
const pauseMs = 25

/** A steady stream of whole chat requests, spread over several addresses, counted. */
export class Load {
  readonly failures: string[] = []
  completed = 0
  /** Milliseconds that the slowest request took. */
  longestMs = 0
  #stopped = false
  readonly #workers: Promise<void>[]

  /** @param urls where the requests go, in turn; read for each request, so that a URL may leave the list. */
  constructor(urls: () => readonly string[], model: string, concurrency: number) {
    this.#workers = Array.from({ length: concurrency }, (_, n) => this.#work(urls, model, n))
  }

  async #work(urls: () => readonly string[], model: string, start: number): Promise<void> {
    for (let n = start; !this.#stopped; n++) {
      const all = urls()
      const since = performance.now()
      const failure = await askOnce(all[n % all.length] ?? '', model)
      this.longestMs = Math.max(this.longestMs, performance.now() - since)
      await new Promise((resolve) => setTimeout(resolve, pauseMs))
      if (failure) this.failures.push(failure)
      else this.completed++
    }
  }

  /** Stops it also when the test fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Lets the requests under way end. */
  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all(this.#workers)
  }
}

/** One chat request; resolves to null when the answer is complete, else to what is wrong with it. */
export async function askOnce(
  url: string,
  model: string,
  { stream = false, tokens }: { readonly stream?: boolean; readonly tokens?: number } = {},
): Promise<string | null> {
  try {
    const response = await fetch(`${url}/api/chat`, {
      method: 'POST',
      body: JSON.stringify({
        model,
        stream,
        messages: [{ role: 'user', content: 'hello' }],
        options: { num_predict: tokens },
      }),
    })
    const text = await response.text()
    if (!response.ok) return `${response.status} ${text}`
    const last = JSON.parse(text.trimEnd().split('\n').at(-1) ?? '') as { done?: boolean }
    return last.done === true ? null : `incomplete: ${text.slice(-200)}`
  } catch (error) {
    return String((error as Error).cause ?? error)
  }
}
