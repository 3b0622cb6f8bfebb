import { LRUCache } from 'lru-cache'
import { claims, missingCapability } from '../../fleet/models/capabilities.ts'
import type { RequestSpec } from '../../fleet/request-spec.ts'
import type { Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import type { Log } from '../../shared/log.ts'
import { errorText, parseObject } from '../response/ollama-json.ts'
import type { UpstreamFailure } from '../response/outcome.ts'

/** Milliseconds between two warnings about one model on one node. */
const warnMs = 60_000
/** Warnings that are remembered. */
const maxRemembered = 1000

interface Refusal {
  readonly failure: UpstreamFailure
  readonly node: string
  readonly spec: RequestSpec
}

/** A refusal that the capability list of another node contradicts. */
export interface Contradiction {
  /** Nodes with the model that, by their own lists, cannot serve the request either. */
  readonly incapable: readonly string[]
  /** The model cannot complete prompts on that node: it is blocked there for a while. */
  readonly isUseless: boolean
}

/**
 * A node with damaged files may refuse with "does not support chat" what the same model elsewhere can do. The refusal
 * is the node's fault only when the list of another node says so; otherwise the model cannot do it anywhere.
 */
export class CapabilityCheck {
  readonly #clock: Clock
  readonly #log: Log
  /** When a warning was last logged, by node and model. */
  readonly #warned = new LRUCache<string, number>({ max: maxRemembered })

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
  }

  /** Null when nothing contradicts the refusal, or it names no capability. */
  contradictionOf({ failure, node, spec }: Refusal, { models, nodes }: Snapshot): Contradiction | null {
    if (failure.kind !== 'refused' || failure.status !== 400) return null
    const text = errorText(parseObject(failure.body.toString('utf8')) ?? {})
    const capability = text === null ? null : missingCapability(text)
    if (capability === null) return null
    const others = (models.get(spec.model)?.presentOn ?? []).flatMap((name) =>
      name === node ? [] : (nodes.get(name) ?? []),
    )
    const able = others.filter((other) => claims(other, spec.model, capability))
    if (!able.some((other) => other.available && !spec.tried.has(other.name))) return null
    this.#warn(node, spec.model, text ?? '')
    const incapable = others.filter((other) => !able.includes(other)).map(({ name }) => name)
    return { incapable, isUseless: capability === 'completion' }
  }

  #warn(node: string, model: string, reason: string): void {
    const key = `${node} ${model}`
    const now = this.#clock.now()
    if (now - (this.#warned.get(key) ?? Number.NEGATIVE_INFINITY) < warnMs) return
    this.#warned.set(key, now)
    const hint = 'its files may be damaged: pull the model again on that node'
    this.#log.warn('a node refuses what another with the model can do', { node, model, reason, hint })
  }
}
