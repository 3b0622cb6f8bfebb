import { Session } from '../cluster/membership/session.ts'
import type { Observation } from '../cluster/probing/stored-status.ts'
import { readAgent } from '../cluster/records.ts'
import type { AgentRecord } from '../fleet/instance.ts'
import type { Clock } from '../shared/clock.ts'
import { ControlLoop } from '../shared/control-loop.ts'
import type { Log } from '../shared/log.ts'
import type { Random } from '../shared/random.ts'
import type { KeyLayout } from '../store/key-layout.ts'
import type { Entry, Operation, Store } from '../store/store.ts'

interface AgentOptions {
  readonly store: Store
  readonly keys: KeyLayout
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** The name of the node: an object name. */
  readonly name: string
  /** The URL at which other machines reach the node. */
  readonly announce: string
  /** The document to register; a valid one. */
  readonly document: string
  /** Health of the local Ollama; null while it is not known. */
  readonly health: () => Pick<Observation, 'health' | 'reason'> | null
  /** Milliseconds after which the node of a host that died is removed. */
  readonly ttlMs?: number
}

const defaultTtlMs = 10_000
/**
 * Milliseconds between two reads of the keys of this node. An agent polls its two keys because a watch would send every
 * agent the changes of all nodes.
 */
const paceMs = 2000

/** The owner of a key: this agent, an operator (no lease), or another process (a lease of its own). */
type Owner = 'us' | 'operator' | 'rival'
type Standing = 'registered' | 'withdrawn' | 'operator' | 'rival'

/**
 * Registers the local Ollama as a node while it answers probes. All keys are put under the agent's lease, so that the
 * node is removed one TTL after its host dies. The agent never changes a document that it did not write; when that
 * document is removed, it registers its own.
 */
export class Agent {
  readonly #options: AgentOptions
  readonly #session: Session
  readonly #loop: ControlLoop
  /** Every lease of this process. A key under one of them is ours, even if the response to its put was lost. */
  readonly #leases = new Set<string>()
  readonly #since: string
  #standing: Standing | null = null

  constructor(options: AgentOptions) {
    const { clock, random, ttlMs = defaultTtlMs } = options
    this.#options = options
    this.#since = clock.date().toISOString()
    this.#session = new Session({ ...options, ttlMs, granted: () => this.#loop.poke() })
    this.#loop = new ControlLoop({ clock, random, periodMs: () => paceMs, round: () => this.#round() })
  }

  start(): void {
    this.#session.start()
    this.#loop.start()
  }

  /**
   * Withdraws the node at once, and marks the agent's record as stopped. The record stays until the lease runs out, so
   * that every instance sees it. An unreachable store is no error: its keys end with the lease.
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

  /** Runs the next round now. Called when the health of the local Ollama changed. */
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
      // The reason is written before the node is removed.
      if (local?.health === 'down') await this.#introduce(lease, { registered: false, ...why })
      const standing = await this.#register(lease, local)
      await this.#introduce(lease, { registered: standing === 'registered', ...why })
    } catch (error) {
      this.#options.log.debug('the node could not be registered', { error })
    }
  }

  /** Puts or deletes the node's document, depending on the health of the local Ollama. */
  async #register(lease: string, local: ReturnType<AgentOptions['health']>): Promise<Standing | null> {
    const { keys, name, document } = this.#options
    if (local === null) return null
    const isUp = local.health !== 'down'
    const owner = await this.#keep(keys.node(name), isUp ? document : null, lease)
    const standing = owner === 'us' ? (isUp ? 'registered' : 'withdrawn') : owner
    this.#tell(standing, local.reason)
    return standing
  }

  /** Writes the agent's record, also while another process has the node's name. */
  async #introduce(
    lease: string,
    standing: Pick<AgentRecord, 'registered' | 'reason' | 'stopped'>,
  ): Promise<void> {
    const { keys, name, announce } = this.#options
    const record: AgentRecord = { name, announce, since: this.#since, ...standing }
    await this.#keep(keys.agent(name), JSON.stringify(record), lease)
  }

  /**
   * Puts `text` at `key` under the lease (null: deletes the key), unless the key belongs to an operator or another
   * process.
   */
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
    return succeeded ? 'us' : this.#keep(key, text, lease) // another writer was faster: read again
  }

  /** One line per change. */
  #tell(standing: Standing, reason: string): void {
    if (standing === this.#standing) return
    this.#standing = standing
    const { log, name, announce } = this.#options
    const fields = { node: name, url: announce }
    if (standing === 'registered') log.info('node registered', fields)
    else if (standing === 'withdrawn')
      log.warn('node withdrawn: the local Ollama does not answer', { ...fields, reason })
    else if (standing === 'operator') log.warn("not registered: an operator's document has the name", fields)
    else log.warn('node not registered: another agent has the name', fields)
  }
}

/** Whether the key is the record of a stopped agent, which has no owner any more. */
function isLeftBehind({ value }: Entry): boolean {
  return readAgent(value)?.stopped === true
}
