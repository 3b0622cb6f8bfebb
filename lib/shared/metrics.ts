import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds, from a cached answer to a cold load from a slow disk. */
const latencyBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640]

/** The labels of one series of requests. */
export interface RequestLabels {
  readonly api: string
  readonly model: string
  readonly code: number
  readonly outcome: string
  readonly cold: boolean
}

/** The label of requests for models that no node has: callers write those names. */
export const otherModel = '_other'

/** The common part of counters, gauges and histograms. */
interface Labelled {
  get(): Promise<{ readonly values: readonly { readonly labels: Readonly<Record<string, string>> }[] }>
  remove(labels: Readonly<Record<string, string>>): void
}

/** Counts that wait to be added. */
const maxUncounted = 64

interface RequestSeries {
  readonly total: Counter.Internal
  readonly seconds: Histogram.Internal<string>
  readonly firstToken: Histogram.Internal<string>
  readonly input: Counter.Internal
  readonly output: Counter.Internal
}

/**
 * Every metric of an instance, declared once. Labels are bounded: `node` is a registered node, `model` a model of the
 * inventory or `_other`, `class` a class of the
 * config, never text from a caller.
 */
export class Metrics {
  readonly registry = new Registry()
  readonly #requests = new Map<string, { readonly labels: RequestLabels; readonly series: RequestSeries }>()
  readonly #labelled: { readonly metric: Labelled; readonly labelNames: readonly string[] }[] = []
  readonly #uncounted: (() => void)[] = []

  readonly buildInfo = this.#gauge('build_info', 'Always 1; the labels tell what runs', [
    'version',
    'node_version',
  ])
  readonly requests = this.#counter('requests_total', 'Requests by what came of them', [
    'api',
    'model',
    'code',
    'outcome',
  ])
  readonly requestSeconds = this.#histogram(
    'request_duration_seconds',
    'From the request line to the last byte',
    ['api', 'model', 'outcome'],
  )
  readonly firstTokenSeconds = this.#histogram(
    'time_to_first_token_seconds',
    'From the request line to the first byte of the answer',
    ['model', 'cold'],
  )
  readonly tokens = this.#counter('tokens_total', 'Tokens read (input) and written (output)', [
    'model',
    'type',
  ])
  readonly malformedLines = this.#counter(
    'stream_malformed_lines_total',
    'Lines of streams that no client can read, passed on as they are',
    ['node'],
  )
  readonly modelLoads = this.#counter('model_loads_total', 'Loads begun for waiting requests', [
    'node',
    'model',
  ])
  readonly queueSeconds = this.#histogram('queue_wait_seconds', 'Time spent waiting for a slot', [
    'class',
    'outcome',
  ])
  readonly queueLength = this.#gauge('queue_length', 'Requests waiting for a slot', ['class'])
  readonly queueOldest = this.#gauge(
    'queue_oldest_seconds',
    'For how long the request that came first has been waiting for a slot; 0: none waits',
    ['class'],
  )
  readonly queueRejected = this.#counter(
    'queue_rejected_total',
    'Requests that got no slot: full, tenant_full, no_capacity (would wait too long), deadline (waited too long), load_failed, no_node or cancelled',
    ['class', 'reason'],
  )
  readonly predictionError = this.#histogram(
    'ttft_prediction_error_seconds',
    'By how much the first token came later or earlier than was predicted when its request was sent',
    ['direction'],
  )
  readonly attempts = this.#counter('upstream_attempts_total', 'Tries at a node', ['node', 'result'])
  readonly retries = this.#counter('retries_total', 'Requests sent on to another node', ['reason'])
  readonly decisions = this.#counter('routing_decisions_total', 'Nodes chosen, by reason', ['reason'])
  readonly bodyBytes = this.#gauge('inflight_body_bytes', 'Request bodies held at once, together', [])
  readonly connectionsRefused = this.#counter(
    'connections_refused_total',
    'Connections closed for exceeding a limit: per_address, total, admin, pipelined or requests (of one connection)',
    ['limit'],
  )
  readonly ownFaults = this.#counter(
    'own_faults_total',
    'Calls that failed because this instance was out of a resource: files, ports or memory',
    ['resource'],
  )
  readonly ownLack = this.#gauge(
    'own_resource_lacking',
    '1 while this instance is out of a resource and not ready',
    ['resource'],
  )
  readonly nodeSlots = this.#gauge(
    'node_slots',
    'Requests that a node takes at once for a model in its memory, as configured or learned by this instance',
    ['node', 'model'],
  )
  readonly nodeInflight = this.#gauge(
    'node_inflight_requests',
    'Requests of this instance running on a node',
    ['node'],
  )
  readonly nodeUp = this.#gauge('node_up', '1 unless the node is advised down', ['node'])
  readonly nodeSlow = this.#gauge(
    'node_slow',
    '1 while probes of the node time out but it takes connections',
    ['node'],
  )
  readonly nodeFrozen = this.#gauge(
    'node_frozen',
    '1 while the node accepts connections of this instance and answers nothing: check whether its machine or Ollama there hangs',
    ['node'],
  )
  readonly nodesDeparted = this.#gauge(
    'nodes_departed',
    'Nodes of agents that are not registered any more, remembered for a day or until they are removed',
    [],
  )
  readonly nodeSwallows = this.#gauge(
    'node_swallows_chats',
    '1 while a node takes chats and answers none: restart Ollama there',
    ['node'],
  )
  readonly breakerState = this.#gauge('circuit_breaker_state', '1 for the state the breaker is in', [
    'node',
    'state',
  ])
  readonly breakerTransitions = this.#counter(
    'circuit_breaker_transitions_total',
    'Times the breaker changed its state',
    ['node', 'to'],
  )
  readonly panicPicks = this.#counter(
    'panic_picks_total',
    'Requests sent past an open breaker, because fewer than half of the capable nodes were admitted',
    ['node'],
  )
  readonly probeSeconds = this.#histogram(
    'node_probe_duration_seconds',
    'How long a probe took (leader only)',
    ['node'],
  )
  readonly members = this.#gauge('cluster_members', 'Instances registered', [])
  readonly isLeader = this.#gauge('cluster_is_leader', '1 on the leader', [])
  readonly fence = this.#gauge(
    'cluster_fence',
    'Fence of the last leader seen: the revision its key was created at; it only grows',
    [],
  )
  readonly leaderChanges = this.#counter('cluster_leader_changes_total', 'Times the leader changed', [])
  readonly storeUp = this.#gauge('store_up', '1 while the last call to the store succeeded', [])
  readonly storeTrouble = this.#gauge(
    'store_trouble',
    '1 while the store answers and refuses: no-space (quota of etcd), corrupt, no-permission, disk-full or unwritable',
    ['kind'],
  )
  readonly storeCertificateStale = this.#gauge(
    'store_certificate_stale',
    '1 while the files for TLS to etcd do not fit together and those read before are in force',
    [],
  )
  readonly storeSeconds = this.#histogram('store_request_duration_seconds', 'Calls to the store', ['op'])
  readonly relists = this.#counter('store_relists_total', 'Full lists after a broken watch', ['reason'])
  readonly configRejected = this.#gauge(
    'config_rejected_objects',
    'Documents in the store that are not in force',
    [],
  )
  readonly digestMismatch = this.#gauge(
    'model_digest_mismatch',
    'Models of which not all nodes have the same copy',
    [],
  )
  readonly configRevision = this.#gauge('config_revision', 'Revision of the snapshot in force', [])
  readonly configStored = this.#gauge('config_stored_revision', 'Revision of the store as seen here', [])
  readonly configSuspect = this.#gauge(
    'config_suspect',
    '1 while the documents in the store are not put in force',
    [],
  )
  readonly snapshotAge = this.#gauge(
    'config_snapshot_age_seconds',
    'Since the configuration was last saved to disk',
    [],
  )
  readonly storeSilence = this.#gauge(
    'store_last_contact_seconds',
    'Since the last sign of life of the store',
    [],
  )
  readonly watchLag = this.#gauge(
    'store_watch_lag_seconds',
    'Since the copy of the store was last proven complete: a list, a change that arrived, or the probe every 10 s that found nothing missing. Up to 12 s are normal, changes usually arrive within milliseconds',
    [],
  )
  readonly heartbeatAge = this.#gauge(
    'cluster_heartbeat_age_seconds',
    'Since a heartbeat of a leader arrived; they come every 5 s, what is more is lag or a missing leader',
    [],
  )
  readonly clockSkew = this.#gauge(
    'cluster_clock_skew_seconds',
    "By how much this machine's wall clock is ahead of the leader's, at the last heartbeat; what that took to arrive included",
    [],
  )
  readonly cutOff = this.#gauge(
    'cut_off',
    '1 while this instance reaches no node and another instance does',
    [],
  )
  readonly adviceOwn = this.#gauge(
    'cluster_advice_own',
    '1 while there is no heartbeat of a leader and this instance probes the nodes itself',
    [],
  )

  readonly jobs = this.#gauge('jobs', 'Model jobs that are kept, by how far they are', ['state'])
  readonly jobResults = this.#counter('job_results_total', 'Model jobs that ended (leader only)', [
    'action',
    'result',
  ])

  constructor() {
    collectDefaultMetrics({ register: this.registry })
  }

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

  /** The series of requests like this one. prom-client would sort and join the labels for every value. */
  request(labels: RequestLabels): RequestSeries {
    const { api, model, code, outcome, cold } = labels
    const key = `${api} ${model} ${code} ${outcome} ${cold}`
    let known = this.#requests.get(key)
    if (!known) {
      known = { labels, series: this.#requestSeries(labels) }
      this.#requests.set(key, known)
    }
    return known.series
  }

  #requestSeries({ api, model, code, outcome, cold }: RequestLabels): RequestSeries {
    return {
      total: this.requests.labels(api, model, String(code), outcome),
      seconds: this.requestSeconds.labels(api, model, outcome),
      firstToken: this.firstTokenSeconds.labels(model, String(cold)),
      input: this.tokens.labels(model, 'input'),
      output: this.tokens.labels(model, 'output'),
    }
  }

  /**
   * Removes the series of nodes that left the fleet, of models that no node has and of classes that are no longer in the
   * config. Call it from time to time: a request that outlives its node adds a series again.
   */
  async keepOnly(label: 'node' | 'model' | 'class', isKnown: (value: string) => boolean): Promise<void> {
    const isGone = (value: string | undefined) =>
      value !== undefined && value !== '' && value !== otherModel && !isKnown(value)
    for (const { metric, labelNames } of this.#labelled) {
      if (!labelNames.includes(label)) continue
      for (const { labels } of (await metric.get()).values) {
        const { le: _bucket, ...own } = labels
        if (isGone(own[label])) metric.remove(own)
      }
    }
    if (label !== 'model') return
    for (const [key, { labels }] of this.#requests) if (isGone(labels.model)) this.#requests.delete(key)
  }

  #counter<const L extends string>(name: string, help: string, labelNames: L[]): Counter<L> {
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

  #gauge<const L extends string>(name: string, help: string, labelNames: L[]): Gauge<L> {
    const metric = new Gauge({ name: `llamero_${name}`, help, labelNames, registers: [this.registry] })
    this.#labelled.push({ metric: metric as Labelled, labelNames })
    return metric
  }

  #histogram<const L extends string>(name: string, help: string, labelNames: L[]): Histogram<L> {
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
