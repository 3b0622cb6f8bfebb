import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds, from a cached answer to a cold load from a slow disk. */
const latencyBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]

/** The label of requests for models that no node has: callers write those names. */
export const otherModel = '_other'

/** The common part of counters, gauges and histograms. */
interface Labelled {
  get(): Promise<{ readonly values: readonly { readonly labels: Readonly<Record<string, string>> }[] }>
  remove(labels: Readonly<Record<string, string>>): void
}

/** Counts that wait to be added. */
const maxUncounted = 64

/** Declares metrics, counts late, and ends the series of what is gone. `Metrics` says which metrics there are. */
export class MetricRegistry {
  readonly registry = new Registry()
  readonly #labelled: { readonly metric: Labelled; readonly labelNames: readonly string[] }[] = []
  readonly #uncounted: (() => void)[] = []

  /**
   * Adds the waiting counts before the metrics are read. The counts of many requests are added together: added one by one,
   * prom-client's code would have left the processor's caches, and a count would cost as much as the choice of a node.
   */
  later(count: () => void): void {
    this.#uncounted.push(count)
    if (this.#uncounted.length >= maxUncounted) this.#catchUp()
  }

  #catchUp(): void {
    for (const count of this.#uncounted.splice(0)) count()
  }

  /** Removes the series with a value of `label` that is known no more. */
  async keepOnly(label: string, isKnown: (value: string) => boolean): Promise<void> {
    for (const { metric, labelNames } of this.#labelled) {
      if (!labelNames.includes(label)) continue
      for (const { labels } of (await metric.get()).values) {
        const { le: _bucket, ...own } = labels
        if (this.isGone(own[label], isKnown)) metric.remove(own)
      }
    }
  }

  protected isGone(value: string | undefined, isKnown: (value: string) => boolean): boolean {
    return value !== undefined && value !== '' && value !== otherModel && !isKnown(value)
  }

  protected counter<const L extends string>(name: string, help: string, labelNames: L[]): Counter<L> {
    const metric = new Counter({
      name: `llamero_${name}`,
      help,
      labelNames,
      registers: [this.registry],
      collect: () => this.#catchUp(),
    })
    this.#labelled.push({ metric: metric as Labelled, labelNames })
    return metric
  }

  protected gauge<const L extends string>(name: string, help: string, labelNames: L[]): Gauge<L> {
    const metric = new Gauge({ name: `llamero_${name}`, help, labelNames, registers: [this.registry] })
    this.#labelled.push({ metric: metric as Labelled, labelNames })
    return metric
  }

  protected histogram<const L extends string>(name: string, help: string, labelNames: L[]): Histogram<L> {
    const metric = new Histogram({
      name: `llamero_${name}`,
      help,
      labelNames,
      buckets: latencyBuckets,
      registers: [this.registry],
      collect: () => this.#catchUp(),
    })
    this.#labelled.push({ metric: metric as Labelled, labelNames })
    return metric
  }
}
