import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { canOpenFile, type OwnResource, ownFaultOf, ownResourceNames } from './own-fault.ts'

interface OwnFaultsOptions {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly hasFiles?: () => boolean
}

/** Milliseconds between two checks that files can be opened: libuv closes connections for which it has no file in silence. */
const lookEveryMs = 1000
/** Milliseconds without another failure after which a lack is over. */
const quietMs = 5000

const hints: Readonly<Record<OwnResource, string>> = {
  files: 'raise the limit of open files (LimitNOFILE in the systemd unit, ulimit -n elsewhere)',
  ports: 'widen net.ipv4.ip_local_port_range, or run another instance',
  memory: 'give the machine or the container more memory, or lower limits.connections_per_address',
}

/** Resources that this instance itself lacks: logged once, shown to load balancers while it lasts, held against no node. */
export class OwnFaults {
  readonly #options: OwnFaultsOptions
  readonly #hasFiles: () => boolean
  /** When each lack was last seen, in monotonic milliseconds. */
  readonly #metAt = new Map<OwnResource, number>()
  #cancel: () => void = () => {}

  constructor(options: OwnFaultsOptions) {
    this.#options = options
    this.#hasFiles = options.hasFiles ?? canOpenFile
  }

  start(): void {
    this.#cancel = this.#options.clock.after(lookEveryMs, () => {
      this.#look()
      this.start()
    })
  }

  stop(): void {
    this.#cancel()
  }

  /** Records a failed call, if it failed because this process lacks a resource. */
  note(error: unknown): void {
    const lack = ownFaultOf(error, this.#hasFiles)
    if (lack) this.#meet(lack)
  }

  /** Why this instance cannot serve callers now; null when it lacks nothing. */
  get reason(): string | null {
    const [lack] = this.#metAt.keys()
    return lack ? `out of ${ownResourceNames[lack]}` : null
  }

  #look(): void {
    if (!this.#hasFiles()) this.#meet('files')
    const { clock, log, metrics } = this.#options
    for (const [resource, at] of this.#metAt) {
      if (clock.now() - at < quietMs) continue
      this.#metAt.delete(resource)
      metrics.ownLack.set({ resource }, 0)
      log.info('this instance is no longer out of a resource', { resource: ownResourceNames[resource] })
    }
  }

  #meet(resource: OwnResource): void {
    const { clock, log, metrics } = this.#options
    metrics.ownFaults.inc({ resource })
    if (!this.#metAt.has(resource)) {
      metrics.ownLack.set({ resource }, 1)
      log.error('this instance is out of a resource', {
        resource: ownResourceNames[resource],
        hint: hints[resource],
      })
    }
    this.#metAt.set(resource, clock.now())
  }
}
