import { isCloudName } from '../../fleet/documents/names.ts'
import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { HealthSign } from '../availability/circuit-breaker.ts'
import { isForeign, isRoutersOwn } from '../response/not-ollama.ts'
import { errorText, parseObject } from '../response/ollama-json.ts'
import type { Refused, UpstreamFault, UpstreamOutcome } from '../response/outcome.ts'

/** What a failed try means. */
export interface FailureVerdict {
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

/**
 * How Ollama's reports begin when the node, not the request, is at fault (ollama: llm/llama_server.go). They must begin
 * the text: what comes later may quote the request.
 */
const nodeFaults =
  /^(model runner has unexpectedly stopped|llama-server (process|reported|error)|timed out waiting for llama-server|an error was encountered while running the model|unexpected server status|no slots available after|health resp|server not responding)/i
/**
 * How a 500 begins that tells of files on the node's disk: Go's errors of the system, and of a model or a manifest that is
 * damaged (ollama: fs/ggml/ggml.go, manifest). A copy elsewhere may be well.
 */
const diskFaults =
  /^((open|stat|lstat|read|fork\/exec) .+: |invalid file magic|unsupported model format|invalid digest format|unexpected (eof|end of json input)$)/i
/** What a runner says of memory, anywhere in its output (ollama: llm/status.go). */
const memoryFaults = /cudamalloc failed|out of memory|failed to allocate/i
/**
 * An embedding wraps every failure of the runner into a 400, or a 500 on `/api/embeddings` (ollama: EmbedHandler and
 * EmbeddingsHandler in server/routes.go). A bare "EOF" is the decoder's word on the request itself.
 */
const embedFaults =
  /^(do embedding request|error reading embed response)|: (unexpected )?eof$|connection refused$/i
/** How reports on the request itself begin, which may go on with its own words (ollama: server/routes.go, llama.cpp). */
const ownFaults = /^(invalid |option |template:|json schema|failed to parse)/i
/** Go quotes what it repeats of a request, in one of three ways: whatever a caller writes there is no report of a fault. */
const quoted = /"(?:[^"\\]|\\.)*"|`[^`]*`|<[^>]*>/g

const again = { elsewhere: true, sign: 'bad' } as const
const modelFailed = { elsewhere: true, sign: 'neutral', effect: 'model' } as const
const final = { elsewhere: false, sign: 'good' } as const

const byFault: Readonly<Record<UpstreamFault, FailureVerdict>> = {
  unreachable: { elsewhere: true, sign: 'refused' },
  'connect-timeout': { elsewhere: true, sign: 'refused' },
  'own-fault': { elsewhere: true, sign: 'neutral' }, // a kept-alive socket to another node needs no new file or port
  'stale-socket': { elsewhere: true, sign: 'neutral' },
  reset: again,
  'first-token-timeout': again,
  'answer-timeout': { elsewhere: true, sign: 'neutral' }, // long answers are no fault; see SilentModels
  'node-down': { elsewhere: true, sign: 'neutral' },
  'connection-lost': { elsewhere: true, sign: 'neutral' },
  ejected: { elsewhere: true, sign: 'neutral' },
  'bad-response': again,
  'broken-off': again,
  stalled: again,
  truncated: again,
  'error-line': again,
  'request-timeout': { elsewhere: false, sign: 'neutral' },
}

/** By status, where it alone tells. A caller must not be able to open a breaker: what a request can provoke is no fault. */
const byStatus: Readonly<Record<number, FailureVerdict>> = {
  401: { elsewhere: true, sign: 'neutral' }, // a cloud model, and this node is not signed in
  404: { elsewhere: true, sign: 'good', effect: 'model' }, // our inventory is older than its disk
  429: { elsewhere: true, sign: 'neutral', effect: 'busy' },
  499: { elsewhere: true, sign: 'neutral' }, // it says that we left, and we did not
  501: final, // an embedding by a model that only writes: no other node could do it
  502: again,
  503: { elsewhere: true, sign: 'neutral', effect: 'busy' }, // its queue is full: busy is not ill
  504: again,
}

/** What a verdict depends on besides the outcome. */
type Judged = Pick<RequestSpec, 'api' | 'model' | 'variant'>

/** The failure classes (docs/ollama.md) as one pure table: how a try ended, and what follows from it. */
export function judgeFailure(outcome: UpstreamOutcome, spec: Judged): FailureVerdict {
  switch (outcome.kind) {
    case 'done':
      return final
    case 'client-gone':
      return { elsewhere: false, sign: 'neutral' }
    case 'node-failed': {
      const verdict = byFault[outcome.fault]
      const elsewhere = verdict.elsewhere && !outcome.committed
      // What ends a stream may be the request's fault, as a status may.
      return outcome.fault === 'error-line'
        ? { ...judgeText(outcome.cause.message, spec, isNodeFault), elsewhere }
        : { ...verdict, elsewhere }
    }
    case 'refused':
      return judgeRefusal(outcome, spec)
  }
  outcome satisfies never
}

/** Statuses by which a proxy refuses what it does not like of the request itself, such as its size. */
const byRequest: ReadonlySet<number> = new Set([400, 408, 411, 413, 414, 431])

/**
 * What is in front of a node says nothing of its models. Whatever it can be made to say by a request alone must not open the
 * breaker; anything else speaks against the way to the node.
 */
function judgeForeign({ status }: Refused): FailureVerdict {
  if (status === 429) return { elsewhere: true, sign: 'neutral', effect: 'busy' }
  return { elsewhere: true, sign: byRequest.has(status) ? 'neutral' : 'bad' }
}

function judgeRefusal(refused: Refused, spec: Judged): FailureVerdict {
  if (isForeign(refused)) return judgeForeign(refused)
  // An Ollama that lacks this API has others, and another node may be newer.
  if (isRoutersOwn(refused)) return { elsewhere: true, sign: 'good' }
  const { status, body } = refused
  const text = textOf(body)
  // A cloud model's own limits, passed through with a reference: no other node can lift them.
  if (text.includes('(ref:')) return { elsewhere: false, sign: 'neutral' }
  // Said by ollama.com, or of the way there: another node may get through, and its own models are well.
  if (isCloudName(spec.model) && (status === 429 || status >= 500))
    return { elsewhere: true, sign: 'neutral' }
  if (status === 403) return judgeForbidden(body)
  const known = byStatus[status]
  if (known) return known
  if (status === 500 && diskFaults.test(text)) return modelFailed
  if (embeds(spec.api) && (status === 400 || status === 500)) return judgeText(text, spec, isEmbedFault)
  if (status === 500) return judgeText(text, spec, isNodeFault)
  return status > 500 ? again : final
}

/** Its own refusals have a text; without one it does not like our Host or Origin, which it should never see. */
function judgeForbidden(body: Buffer): FailureVerdict {
  return body.length === 0 ? again : { elsewhere: true, sign: 'neutral' }
}

/**
 * A runner that died of a model, or of what this request asks of it, may die again: the model alone is kept from the node
 * for a while. Nothing is held against the node: else one caller, whose request kills runners, would take its other
 * models from everybody.
 */
function judgeText(text: string, { variant }: Judged, isFault: (text: string) => boolean): FailureVerdict {
  const said = text.replace(quoted, '').trim()
  if (ownFaults.test(said) || !isFault(said)) return final
  // The request brought its own context or layers, which may be too much: the model as others use it may be well.
  if (variant !== '' && memoryFaults.test(said)) return { elsewhere: true, sign: 'neutral' }
  return modelFailed
}

function isNodeFault(text: string): boolean {
  return nodeFaults.test(text) || memoryFaults.test(text)
}

/** Whether a text tells that the runner was lost while it embedded. */
export function isRunnerLost(text: string): boolean {
  return embedFaults.test(text.replace(quoted, '').trim())
}

function isEmbedFault(text: string): boolean {
  return isNodeFault(text) || embedFaults.test(text)
}

/** What an error of Ollama's says, or the whole of what is none. */
export function textOf(body: Buffer): string {
  const text = body.toString('utf8')
  const json = parseObject(text)
  return (json && errorText(json)) ?? text
}
