import type { Fault, Outcome } from './attempt.ts'
import type { HealthSign } from './breaker.ts'

/** What a failed try means: whether another node should be asked, and what it says of this one. */
export interface Judgement {
  readonly elsewhere: boolean
  readonly sign: HealthSign
}

/**
 * Texts with which Ollama reports that the node, not the request, is at fault (sheet ollama-api.md §1.5). Its status
 * alone does not tell: a wrong option is a 500 as well, and a caller must not be able to open a breaker.
 */
const nodeFaultTexts = [
  'model runner has unexpectedly stopped',
  'llama-server process has terminated',
  'timed out waiting for llama-server to start',
  'an error was encountered while running the model',
  'unexpected server status',
  'no slots available after',
  'cudamalloc failed',
  'out of memory',
  'failed to allocate',
  'do embedding request',
  'connection refused',
  'no longer running',
  'reading embed response',
]

const bySign: Readonly<Record<Fault, HealthSign>> = {
  unreachable: 'refused',
  'connect-timeout': 'refused',
  'stale-socket': 'neutral',
  reset: 'bad',
  'first-token-timeout': 'bad',
  'bad-response': 'bad',
  'broken-off': 'bad',
  stalled: 'bad',
  'request-timeout': 'neutral',
}

/**
 * Judges how a try ended. Pure. Only a request of which the caller has seen no byte goes elsewhere, and never one whose
 * time is up.
 */
export function judge(outcome: Outcome): Judgement {
  switch (outcome.kind) {
    case 'done':
      return { elsewhere: false, sign: 'good' }
    case 'client-gone':
      return { elsewhere: false, sign: 'neutral' }
    case 'node-failed':
      return {
        elsewhere: !outcome.committed && outcome.fault !== 'request-timeout',
        sign: bySign[outcome.fault],
      }
    case 'refused':
      return judgeAnswer(outcome.status, outcome.body)
  }
  outcome satisfies never
}

function judgeAnswer(status: number, body: Buffer): Judgement {
  if (status === 503) return { elsewhere: true, sign: 'neutral' } // its queue is full: busy is not ill
  if (status === 404) return { elsewhere: true, sign: 'good' } // our inventory is older than its disk
  if (status === 502 || status === 504) return { elsewhere: true, sign: 'bad' }
  if (status === 429) return { elsewhere: false, sign: 'neutral' }
  const text = body.toString('utf8').toLowerCase()
  const atFault = (status === 500 || status === 400) && nodeFaultTexts.some((each) => text.includes(each))
  return atFault ? { elsewhere: true, sign: 'bad' } : { elsewhere: false, sign: 'good' }
}
