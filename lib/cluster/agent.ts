import type { AgentRecord } from '../fleet/instance.ts'
import type { Clock } from '../shared/clock.ts'
import type { Log } from '../shared/log.ts'
import { type Dice, Loop } from '../shared/loop.ts'
import type { Keys } from '../store/keys.ts'
import type { Entry, Operation, Store } from '../store/store.ts'
import { readAgent } from './records.ts'
import { Session } from './session.ts'
import type { Observation } from './statuses.ts'

interface AgentOptions {
  readonly store: Store
  readonly keys: Keys
  readonly clock: Clock
  readonly dice: Dice
  readonly log: Log
  /** Of the node: an object name. */
  readonly name: string
  /** The node's URL as others reach it, and the whole document to register: a valid one. */
  readonly announce: string
  readonly document: string
  /** How the local Ollama is, or null while that is not known. */
  readonly health: () => Pick<Observation, 'health' | 'reason'> | null
  /** Milliseconds until the node of a host that died is gone. */
  readonly ttlMs?: number
}

const defaultTtlMs = 10_000
/**
 * Milliseconds between looks at the two keys of this node. Every agent of a large fleet reads two keys, where a watch
 * would tell each of them of all the others' nodes.
 */
const paceMs = 2000

/** Whose a key is: ours, an operator's (no lease), or that of another process under a lease of its own. */
type Owner = 'us' | 'operator' | 'rival'
type Standing = 'registered' | 'withdrawn' | 'operator' | 'rival'

/**
 * Registers the Ollama beside it as a node while that answers. Everything it writes lives under its lease, so that the
 * node is gone one TTL after the host is. It never touches a document of somebody else, and follows when that is removed.
 */
export class Agent {
  readonly #options: AgentOptions
  readonly #session: Session
  readonly #loop: Loop
  /** Every lease this process has had: keys under them are ours, also those put in a call whose answer was lost. */
  readonly #leases = new Set<string>()
  readonly #since: string
  #standing: Standing | null = null

  constructor(options: AgentOptions) {
    const { clock, dice, ttlMs = defaultTtlMs } = options
    this.#options = options
    this.#since = clock.date().toISOString()
    this.#session = new Session({ ...options, ttlMs, granted: () => this.#loop.poke() })
    this.#loop = new Loop({ clock, dice, periodMs: () => paceMs, round: () => this.#round() })
  }

  start(): void {
    this.#session.start()
    this.#loop.start()
  }

  /**
   * Withdraws the node at once, and says in its own record that this was meant: that record stays until the lease runs
   * out, so that every instance has seen it. An unreachable store is no error: there everything ends with the lease.
   */
  async stop(): Promise<void> {
    const { lease } = this.#session
    await Promise.all([this.#loop.stop(), this.#session.orphan()])
    if (lease === null) return
    const { keys, name } = this.#options
    try {
      await this.#introduce(lease, { registered: false, stopped: true })
      await this.#keep(keys.node(name), null, lease)
    } catch (error) {
      this.#options.log.debug('the node could not be withdrawn', { error })
    }
  }

  /** The local Ollama's health has changed: act now. */
  poke(): void {
    this.#loop.poke()
  }

  async #round(): Promise<void> {
    const { lease } = this.#session
    if (lease === null) return
    this.#leases.add(lease)
    try {
      const local = this.#options.health()
      const why = local !== null && local.health !== 'up' ? { reason: local.reason } : {}
      // The reason stands in the store before the node goes.
      if (why.reason !== undefined) await this.#introduce(lease, { registered: false, ...why })
      const standing = await this.#register(lease, local)
      await this.#introduce(lease, { registered: standing === 'registered', ...why })
    } catch (error) {
      this.#options.log.debug('the node could not be registered', { error })
    }
  }

  /** Makes the node stand in the store, or not, as the local Ollama's health demands. */
  async #register(lease: string, local: ReturnType<AgentOptions['health']>): Promise<Standing | null> {
    const { keys, name, document } = this.#options
    if (local === null) return null
    const isUp = local.health !== 'down'
    const owner = await this.#keep(keys.node(name), isUp ? document : null, lease)
    const standing = owner === 'us' ? (isUp ? 'registered' : 'withdrawn') : owner
    this.#tell(standing, local.reason)
    return standing
  }

  /** Tells the leader that an agent is here, whoever has the node's name. */
  async #introduce(
    lease: string,
    standing: Pick<AgentRecord, 'registered' | 'reason' | 'stopped'>,
  ): Promise<void> {
    const { keys, name, announce } = this.#options
    const record: AgentRecord = { name, announce, since: this.#since, ...standing }
    await this.#keep(keys.agent(name), JSON.stringify(record), lease)
  }

  /** Makes `key` hold `text` under the lease (null: makes it absent), unless it is somebody else's. */
  async #keep(key: string, text: string | null, lease: string): Promise<Owner> {
    const { store } = this.#options
    const entry = await store.get(key)
    if (entry?.lease === null) return 'operator'
    if (entry && !this.#leases.has(entry.lease) && !isLeftBehind(entry)) return 'rival'
    const isSo = text === null ? !entry : entry?.value === text && entry.lease === lease
    if (isSo) return 'us'
    const when = entry ? { key, modified: entry.modified } : { key, created: 0n }
    const operation: Operation =
      text === null ? { type: 'delete', key } : { type: 'put', key, value: text, lease }
    const { succeeded } = await store.commit({ when: [when], apply: [operation] })
    return succeeded ? 'us' : this.#keep(key, text, lease) // somebody was faster: look again
  }

  /** One line per change. */
  #tell(standing: Standing, reason: string): void {
    if (standing === this.#standing) return
    this.#standing = standing
    const { log, name, announce } = this.#options
    const fields = { node: name, url: announce }
    if (standing === 'registered') log.info('node registered', fields)
    else if (standing === 'withdrawn')
      log.warn('no node: the local Ollama does not answer', { ...fields, reason })
    else if (standing === 'operator') log.warn("not registered: an operator's document has the name", fields)
    else log.warn('not registered: another agent has the name', fields)
  }
}

/** The record of an agent that was stopped has no owner any more; a node's document has no such field. */
function isLeftBehind({ value }: Entry): boolean {
  return readAgent(value)?.stopped === true
}
