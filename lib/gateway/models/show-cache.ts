/** Bodies by key, up to a number of bytes together: those not asked for the longest go first. */
export class Recent {
  readonly #maxBytes: number
  /** In the order of their last use. */
  readonly #bodies = new Map<string, Buffer>()
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get(key: string): Buffer | undefined {
    const body = this.#bodies.get(key)
    if (body) {
      this.#bodies.delete(key)
      this.#bodies.set(key, body)
    }
    return body
  }

  /** One that alone would fill the most of it is not kept. */
  keep(key: string, body: Buffer): void {
    this.#drop(key)
    if (body.length > this.#maxBytes / 2) return
    this.#bodies.set(key, body)
    this.#bytes += body.length
    for (const oldest of this.#bodies.keys()) {
      if (this.#bytes <= this.#maxBytes) return
      this.#drop(oldest)
    }
  }

  #drop(key: string): void {
    this.#bytes -= this.#bodies.get(key)?.length ?? 0
    this.#bodies.delete(key)
  }
}
