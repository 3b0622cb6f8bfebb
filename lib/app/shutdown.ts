import { ProxyError } from '../shared/errors.ts'
import type { ControlPlane } from './control-plane.ts'
import type { DataPlane } from './data-plane.ts'
import type { Foundation } from './open-store.ts'

/** Milliseconds that a stop gives to load balancers, and to the requests that run. */
export interface StopLimits {
  readonly graceMs: number
  readonly drainMs: number
}

/** Milliseconds that slow readers get for the error with which their requests are cut off. */
const lastErrorMs = 100

/** Drains an instance and stops its parts, in reverse order of their start. */
export class Shutdown {
  readonly #foundation: Foundation
  readonly #data: DataPlane
  readonly #control: ControlPlane
  readonly #hurry = new AbortController()
  #stopped: Promise<void> | null = null

  constructor(foundation: Foundation, data: DataPlane, control: ControlPlane) {
    this.#foundation = foundation
    this.#data = data
    this.#control = control
  }

  /** The first call begins to drain; any later one ends the waits. */
  stop(limits: StopLimits): Promise<void> {
    if (this.#stopped !== null) this.#hurry.abort()
    this.#stopped ??= this.#stop(limits)
    return this.#stopped
  }

  async #stop(limits: StopLimits): Promise<void> {
    const { listener, ownFaults, loader, upstreams } = this.#data
    const { adminServer, cluster } = this.#control
    const { store, log } = this.#foundation
    const { closed } = await this.#drain(limits)
    listener.destroy()
    await closed
    await adminServer.close()
    await cluster.stop()
    ownFaults.stop()
    loader.stop()
    upstreams.destroy()
    await store.close()
    log.info('stopped')
  }

  /** @returns the listener's close, which resolves when the last connection is gone */
  async #drain({ graceMs, drainMs }: StopLimits): Promise<{ readonly closed: Promise<void> }> {
    const { clock, log } = this.#foundation
    const { scheduler, listener, pipeline } = this.#data
    const { exchanges } = pipeline
    this.#control.draining.begin()
    const { running } = scheduler.summary()
    log.info('draining', { running: Object.values(running).reduce((sum, each) => sum + each, 0) })
    // Load balancers ask /readyz every few seconds: they must see it fail before connections are refused.
    await clock.sleep(graceMs, this.#hurry.signal).catch(() => {})
    const closed = listener.close()
    await Promise.race([exchanges.idle(), clock.sleep(drainMs, this.#hurry.signal)]).catch(() => {})
    const cut = exchanges.abortAll(new ProxyError('shutting_down'))
    if (cut > 0) log.warn('drain time is over: requests cut off', { requests: cut })
    await Promise.race([exchanges.idle(), clock.sleep(lastErrorMs)])
    return { closed }
  }
}
