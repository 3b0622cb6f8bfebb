import type { Clock } from '../../../shared/clock.ts'
import type { Blobs } from './blobs.ts'
import { bytesPerMiB } from './layers.ts'
import type { Layer } from './model-definition.ts'

/** A download that stands still for `ms` milliseconds once it has `atMiB` MiB. */
export interface Stall {
  readonly atMiB: number
  readonly ms: number
}

/** One client's share in a download, given up when it is disposed of. */
export interface Share extends Disposable {
  /** Bytes, now. */
  readonly completed: number
}

interface Download {
  readonly layer: Layer
  readonly from: number
  readonly startedAt: number
  readonly stall: Stall | null
  clients: number
}

/**
 * The blobs that a node is fetching. Clients of one blob share its download, which goes on as long as one client stays and
 * leaves a partial blob when the last client leaves (docs/ollama.md#model-management). Its progress is computed from the
 * clock, without timers.
 */
export class Downloads {
  readonly #clock: Clock
  readonly #blobs: Blobs
  /** 0: at once. */
  readonly #bytesPerMs: number
  readonly #running = new Map<string, Download>()

  constructor(clock: Clock, blobs: Blobs, mibPerSecond: number) {
    this.#clock = clock
    this.#blobs = blobs
    this.#bytesPerMs = (mibPerSecond * bytesPerMiB) / 1000
  }

  /** Takes part in fetching `layer`; `stall` strikes only a download that begins here. */
  join(layer: Layer, stall: Stall | null): Share {
    const download = this.#running.get(layer.digest) ?? this.#begin(layer, stall)
    download.clients++
    const completed = () => this.#completed(download)
    return {
      get completed() {
        return completed()
      },
      [Symbol.dispose]: () => this.#leave(download),
    }
  }

  /** Milliseconds that `bytes` bytes take. */
  msFor(bytes: number): number {
    return this.#bytesPerMs === 0 ? 0 : bytes / this.#bytesPerMs
  }

  /** Forgets all downloads, as a process that dies does. */
  forget(): void {
    this.#running.clear()
  }

  #begin(layer: Layer, stall: Stall | null): Download {
    const from = this.#blobs.partialBytes(layer.digest)
    const download = { layer, from, startedAt: this.#clock.now(), stall, clients: 0 }
    this.#running.set(layer.digest, download)
    return download
  }

  #leave(download: Download): void {
    const { digest, bytes } = download.layer
    const completed = this.#completed(download)
    download.clients--
    if (this.#running.get(digest) !== download) return
    if (completed < bytes && download.clients > 0) return
    this.#running.delete(digest)
    if (completed < bytes) this.#blobs.keepPartial(digest, completed)
    else this.#blobs.put(digest, { bytes, isGguf: true })
  }

  #completed({ layer, from, startedAt, stall }: Download): number {
    const spent = this.#clock.now() - startedAt
    const stallsAt = stall ? this.msFor(stall.atMiB * bytesPerMiB - from) : Number.POSITIVE_INFINITY
    const stalled = Math.min(Math.max(0, spent - Math.max(0, stallsAt)), stall?.ms ?? 0)
    if (this.#bytesPerMs === 0) return layer.bytes
    return Math.min(layer.bytes, Math.floor(from + (spent - stalled) * this.#bytesPerMs))
  }
}
