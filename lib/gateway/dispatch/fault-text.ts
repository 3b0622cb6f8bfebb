import type { UpstreamFault } from '../response/outcome.ts'

/**
 * What happened to the response and what to do, in words for the caller. The names of `UpstreamFault` are metric
 * labels. A response that had begun is incomplete, and its error says so.
 */
const sentences: Readonly<Record<Exclude<UpstreamFault, 'error-line' | 'own-fault'>, string>> = {
  unreachable: 'it cannot be reached; try again in a few seconds',
  'connect-timeout': 'it did not accept a connection in time; try again in a few seconds',
  'stale-socket': 'it closed the connection before it answered; send the request again',
  reset: 'it closed the connection before it answered; send the request again',
  'connection-lost': 'the connection to it was lost in an outage of the network; send the request again',
  ejected: 'it does not answer requests at the moment; try again in a few seconds',
  frozen: 'it accepts connections and answers nothing at the moment; try again in a few seconds',
  'node-down': 'it went down before it answered; send the request again',
  'first-token-timeout':
    'it did not begin to answer within the time limit; send the request again, or a shorter prompt if that repeats',
  'answer-timeout':
    'its answer takes far longer than usual; send the request again, or ask for a shorter answer',
  'bad-response':
    'what it sent is not an answer of Ollama; try again, or ask the operator to look up this request id in the log',
  'broken-off':
    'the connection broke in the middle of the answer, so the answer is incomplete; send the request again',
  stalled: 'it stopped in the middle of the answer, so the answer is incomplete; send the request again',
  truncated: 'the answer ended before it was complete; send the request again',
  'request-timeout':
    'the request took longer than a whole request may take; send it again with a shorter answer (num_predict, max_tokens)',
}

/** Faults that may be over in a few seconds, and how many seconds. */
const passing: ReadonlySet<UpstreamFault> = new Set(['unreachable', 'connect-timeout', 'ejected', 'frozen'])
const passingS = 5

/** Seconds after which a retry may help; null when unknown. */
export function retrySecondsOf(fault: UpstreamFault): number | null {
  return passing.has(fault) ? passingS : null
}

/** @param said the node's own error text, for the fault `error-line`. */
export function faultText(fault: Exclude<UpstreamFault, 'own-fault'>, said: string): string {
  return fault === 'error-line' ? said : sentences[fault]
}
