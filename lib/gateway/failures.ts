import { type Api, embeds } from '../fleet/ask.ts'
import { errorText, parseObject } from './answer-json.ts'
import type { HealthSign } from './breaker.ts'
import type { Fault, Outcome, Refused } from './outcome.ts'

/** What a failed try means. */
export interface Verdict {
  /** Whether another node should be asked. */
  readonly elsewhere: boolean
  /** What it says of the node's health. */
  readonly sign: HealthSign
  /**
   * What else it says: the node wants to be left alone for a while (`busy`), or only this model on it is not to be used
   * (`model`): it is not there, or its runner dies.
   */
  readonly effect?: 'busy' | 'model'
}

/** Ollama's reports that the node, not the request, is at fault (sheet ollama-api.md §1.5). */
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
]
/** Embedding wraps every failure of the runner into a 400 (routes.go:1010). */
const embedFaultTexts = [
  ...nodeFaultTexts,
  'do embedding request',
  'eof',
  'connection refused',
  'no longer running',
  'reading embed response',
]

const again = { elsewhere: true, sign: 'bad' } as const
const final = { elsewhere: false, sign: 'good' } as const

const byFault: Readonly<Record<Fault, Verdict>> = {
  unreachable: { elsewhere: true, sign: 'refused' },
  'connect-timeout': { elsewhere: true, sign: 'refused' },
  'stale-socket': { elsewhere: true, sign: 'neutral' },
  reset: again,
  'first-token-timeout': again,
  'node-down': { elsewhere: true, sign: 'neutral' },
  'bad-response': again,
  'broken-off': again,
  stalled: again,
  truncated: again,
  'error-line': again,
  'request-timeout': { elsewhere: false, sign: 'neutral' },
}

/** By status, where it alone tells. A caller must not be able to open a breaker: whatever it can provoke is no fault. */
const byStatus: Readonly<Record<number, Verdict>> = {
  401: { elsewhere: true, sign: 'neutral' }, // a cloud model, and this node is not signed in
  404: { elsewhere: true, sign: 'good', effect: 'model' }, // our inventory is older than its disk
  429: { elsewhere: true, sign: 'neutral', effect: 'busy' },
  499: { elsewhere: true, sign: 'neutral' }, // it says that we left, and we did not
  502: again,
  503: { elsewhere: true, sign: 'neutral', effect: 'busy' }, // its queue is full: busy is not ill
  504: again,
}

/** The failure classes (sheet ollama-api.md §7) as one pure table: how a try ended, and what follows from it. */
export function judge(outcome: Outcome, api: Api): Verdict {
  switch (outcome.kind) {
    case 'done':
      return final
    case 'client-gone':
      return { elsewhere: false, sign: 'neutral' }
    case 'node-failed': {
      const verdict = byFault[outcome.fault]
      // What ends a stream may be the request's fault, as a status may.
      const { sign } =
        outcome.fault === 'error-line' ? judgeText(outcome.cause.message, nodeFaultTexts) : verdict
      return { ...verdict, sign, elsewhere: verdict.elsewhere && !outcome.committed }
    }
    case 'refused':
      return judgeRefusal(outcome, api)
  }
  outcome satisfies never
}

function judgeRefusal({ status, body }: Refused, api: Api): Verdict {
  const text = textOf(body)
  // A cloud model's own limits, passed through with a reference: no other node can lift them.
  if (text.includes('(ref:')) return { elsewhere: false, sign: 'neutral' }
  if (status === 403) return judgeForbidden(body)
  const known = byStatus[status]
  if (known) return known
  if (status === 500) return judgeText(text, nodeFaultTexts)
  if (status === 400 && embeds(api)) return judgeText(text, embedFaultTexts)
  return status > 500 ? again : final
}

/** Its own refusals have a text; without one it does not like our Host or Origin, which it should never see. */
function judgeForbidden(body: Buffer): Verdict {
  return body.length === 0 ? again : { elsewhere: true, sign: 'neutral' }
}

/** A runner that died of a model will die of it again: only that model is kept from the node for a while. */
function judgeText(text: string, faults: readonly string[]): Verdict {
  const atFault = faults.some((each) => text.toLowerCase().includes(each))
  return atFault ? { ...again, effect: 'model' } : final
}

function textOf(body: Buffer): string {
  const text = body.toString('utf8')
  const json = parseObject(text)
  return (json && errorText(json)) ?? text
}
