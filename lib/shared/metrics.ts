import { type Counter, collectDefaultMetrics, type Histogram } from 'prom-client'
import { MetricRegistry } from './metric-registry.ts'

/** The labels of one series of requests. */
export interface RequestLabels {
  readonly api: string
  readonly model: string
  readonly code: number
  readonly outcome: string
  readonly cold: boolean
}

interface RequestSeries {
  readonly total: Counter.Internal
  readonly seconds: Histogram.Internal<string>
  readonly firstToken: Histogram.Internal<string>
  readonly input: Counter.Internal
  readonly output: Counter.Internal
}

/**
 * Every metric of an instance, declared once. Labels are bounded: `node` is a registered node, `model` a model of the
 * inventory or `_other`, `class` a class of the config; never text from a caller.
 */
export class Metrics extends MetricRegistry {
  readonly #requests = new Map<string, { readonly labels: RequestLabels; readonly series: RequestSeries }>()

  readonly buildInfo = this.gauge(
    'build_info',
    'Always 1; the labels name the version of llamero and of Node',
    ['version', 'node_version'],
  )
  readonly requests = this.counter('requests_total', 'Requests of callers that ended, by outcome', [
    'api',
    'model',
    'code',
    'outcome',
  ])
  readonly requestSeconds = this.histogram(
    'request_duration_seconds',
    'Time from the request line to the last byte of the answer',
    ['api', 'model', 'outcome'],
  )
  readonly firstTokenSeconds = this.histogram(
    'time_to_first_token_seconds',
    'Time from the request line to the first byte of the answer',
    ['model', 'cold'],
  )
  readonly tokens = this.counter('tokens_total', 'Tokens of prompts (input) and of answers (output)', [
    'model',
    'type',
  ])
  readonly malformedLines = this.counter(
    'stream_malformed_lines_total',
    'Lines of streams that are not valid JSON; they are passed on as they came',
    ['node'],
  )
  readonly modelLoads = this.counter(
    'model_loads_total',
    'Model loads that llamero began for waiting requests',
    ['node', 'model'],
  )
  readonly queueSeconds = this.histogram('queue_wait_seconds', 'Time that a request waited for a slot', [
    'class',
    'outcome',
  ])
  readonly queueLength = this.gauge('queue_length', 'Requests waiting for a slot', ['class'])
  readonly queueOldest = this.gauge(
    'queue_oldest_seconds',
    'Time that the oldest waiting request has waited for a slot; 0 when none waits',
    ['class'],
  )
  readonly queueRejected = this.counter(
    'queue_rejected_total',
    'Requests that got no slot: full, tenant_full, no_capacity (would wait too long), deadline (waited too long), load_failed, no_node or cancelled',
    ['class', 'reason'],
  )
  readonly predictionError = this.histogram(
    'ttft_prediction_error_seconds',
    'Difference between the predicted and the real time to the first token: the token came late or early',
    ['direction'],
  )
  readonly attempts = this.counter('upstream_attempts_total', 'Attempts of requests at a node', [
    'node',
    'result',
  ])
  readonly retries = this.counter(
    'retries_total',
    'Attempts after a failed one, by the reason of the failure',
    ['reason'],
  )
  readonly decisions = this.counter(
    'routing_decisions_total',
    'Grants of a slot, by the reason for the choice of the node',
    ['reason'],
  )
  readonly bodyBytes = this.gauge('inflight_body_bytes', 'Memory that request bodies take now', [])
  readonly connectionsRefused = this.counter(
    'connections_refused_total',
    'Connections closed for exceeding a limit: per_address, total, admin, pipelined or requests (of one connection)',
    ['limit'],
  )
  readonly ownFaults = this.counter(
    'own_faults_total',
    'System calls that failed because this instance had no file, port or memory left',
    ['resource'],
  )
  readonly ownLack = this.gauge(
    'own_resource_lacking',
    '1 while this instance lacks files, ports or memory; it is then not ready',
    ['resource'],
  )
  readonly nodeSlots = this.gauge(
    'node_slots',
    'Requests that a node takes at once for a model in its memory, as configured or learned by this instance',
    ['node', 'model'],
  )
  readonly nodeInflight = this.gauge(
    'node_inflight_requests',
    'Requests of this instance running on a node',
    ['node'],
  )
  readonly nodeUp = this.gauge(
    'node_up',
    '1 while the health of the node is up or slow; 0 while it is down or unknown',
    ['node'],
  )
  readonly nodeSlow = this.gauge(
    'node_slow',
    '1 while the health of the node is slow: its probes time out, but it accepts connections',
    ['node'],
  )
  readonly nodeFrozen = this.gauge(
    'node_frozen',
    '1 while the node accepts connections of this instance and answers nothing: check whether its machine or Ollama there hangs',
    ['node'],
  )
  readonly nodesDeparted = this.gauge(
    'nodes_departed',
    'Nodes that their agents registered and no longer do; each is remembered for a day or until it is removed',
    [],
  )
  readonly nodeSwallows = this.gauge(
    'node_swallows_chats',
    '1 while a node takes chats and answers none: restart Ollama there',
    ['node'],
  )
  readonly breakerState = this.gauge(
    'circuit_breaker_state',
    "1 for the state of this instance's circuit breaker for the node, 0 for the other states",
    ['node', 'state'],
  )
  readonly breakerTransitions = this.counter(
    'circuit_breaker_transitions_total',
    "State changes of this instance's circuit breaker for the node",
    ['node', 'to'],
  )
  readonly panicPicks = this.counter(
    'panic_picks_total',
    'Requests sent to a node past its open circuit breaker, because fewer than half of the capable nodes were available',
    ['node'],
  )
  readonly probeSeconds = this.histogram('node_probe_duration_seconds', 'Duration of a probe (leader only)', [
    'node',
  ])
  readonly members = this.gauge(
    'cluster_members',
    'Instances that are registered, as the store told last',
    [],
  )
  readonly isLeader = this.gauge('cluster_is_leader', '1 on the leader', [])
  readonly fence = this.gauge(
    'cluster_fence',
    'Fence of the last known leader: the create revision of the leader key; it only grows',
    [],
  )
  readonly leaderChanges = this.counter('cluster_leader_changes_total', 'Times the leader changed', [])
  readonly storeUp = this.gauge('store_up', '1 while the last call to the store succeeded', [])
  readonly storeTrouble = this.gauge(
    'store_trouble',
    '1 while the store answers and refuses calls; the kind says why: no-space (quota of etcd), corrupt, no-permission, disk-full or unwritable',
    ['kind'],
  )
  readonly storeCertificateStale = this.gauge(
    'store_certificate_stale',
    '1 while the TLS files for etcd do not fit together, so that the files read before stay in force',
    [],
  )
  readonly storeSeconds = this.histogram(
    'store_request_duration_seconds',
    'Duration of a call to the store',
    ['op'],
  )
  readonly relists = this.counter(
    'store_relists_total',
    'Relists: full reads of the store after its watch broke',
    ['reason'],
  )
  readonly configRejected = this.gauge(
    'config_rejected_objects',
    'Rejected documents in the store: they are not in force',
    [],
  )
  readonly digestMismatch = this.gauge(
    'model_digest_mismatch',
    'Models with different copies on different nodes',
    [],
  )
  readonly configRevision = this.gauge('config_revision', 'Store revision of the snapshot in force', [])
  readonly configStored = this.gauge(
    'config_stored_revision',
    'Last revision of the store that this instance knows',
    [],
  )
  readonly configSuspect = this.gauge(
    'config_suspect',
    '1 while the store is suspect: its documents are not put in force',
    [],
  )
  readonly snapshotAge = this.gauge(
    'config_snapshot_age_seconds',
    'Time since the configuration was last saved to disk',
    [],
  )
  readonly storeSilence = this.gauge(
    'store_last_contact_seconds',
    'Time since the last answer of the store',
    [],
  )
  readonly watchLag = this.gauge(
    'store_watch_lag_seconds',
    'Time since the copy of the store was last known to be complete: after a list, a change, or a check (every 10 s) that found nothing missing. Up to 12 s are normal; changes usually arrive within milliseconds',
    [],
  )
  readonly heartbeatAge = this.gauge(
    'cluster_heartbeat_age_seconds',
    'Time since the last heartbeat of a leader. One comes every 5 s; more time means lag or no leader',
    [],
  )
  readonly clockSkew = this.gauge(
    'cluster_clock_skew_seconds',
    "Seconds by which this machine's wall clock is ahead of the leader's, at the last heartbeat; the latency of the heartbeat is included",
    [],
  )
  readonly cutOff = this.gauge(
    'cut_off',
    '1 while this instance reaches no node and another instance does',
    [],
  )
  readonly adviceOwn = this.gauge(
    'cluster_advice_own',
    '1 while this instance hears no heartbeat of a leader and probes the nodes itself',
    [],
  )

  readonly jobs = this.gauge('jobs', 'Model jobs that are kept, by state', ['state'])
  readonly jobResults = this.counter('job_results_total', 'Model jobs that ended (leader only)', [
    'action',
    'result',
  ])

  constructor() {
    super()
    collectDefaultMetrics({ register: this.registry })
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
  override async keepOnly(
    label: 'node' | 'model' | 'class',
    isKnown: (value: string) => boolean,
  ): Promise<void> {
    await super.keepOnly(label, isKnown)
    if (label !== 'model') return
    for (const [key, { labels }] of this.#requests)
      if (this.isGone(labels.model, isKnown)) this.#requests.delete(key)
  }
}
