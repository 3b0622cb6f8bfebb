import type { Layer } from './model-definition.ts'

/** The blob store of one node: sizes only, for the simulator keeps no weights. */
export class Blobs {
  readonly #complete = new Map<string, StoredBlob>()
  /** Bytes that a stopped download left behind. */
  readonly #partial = new Map<string, number>()

  constructor(layers: Iterable<Layer>) {
    this.add(layers)
  }

  get(digest: string): StoredBlob | undefined {
    return this.#complete.get(digest)
  }

  has(digest: string): boolean {
    return this.#complete.has(digest)
  }

  partialBytes(digest: string): number {
    return this.#partial.get(digest) ?? 0
  }

  put(digest: string, blob: StoredBlob): void {
    this.#complete.set(digest, blob)
    this.#partial.delete(digest)
  }

  add(layers: Iterable<Layer>): void {
    for (const { digest, bytes } of layers) this.put(digest, { bytes, isGguf: true })
  }

  keepPartial(digest: string, bytes: number): void {
    this.#partial.set(digest, bytes)
  }

  remove(digest: string): void {
    this.#complete.delete(digest)
  }

  /** As a starting server does: deletes partial blobs, and blobs that no manifest names (docs/ollama.md#model-management). */
  prune(named: ReadonlySet<string>): void {
    this.#partial.clear()
    for (const digest of this.#complete.keys()) if (!named.has(digest)) this.#complete.delete(digest)
  }
}

export interface StoredBlob {
  readonly bytes: number
  /** Whether its first bytes are those of a GGUF file. */
  readonly isGguf: boolean
}

/** Where Ollama keeps a blob, as its error texts say. */
export function blobPath(digest: string): string {
  return `/root/.ollama/models/blobs/${digest.replace(':', '-')}`
}
