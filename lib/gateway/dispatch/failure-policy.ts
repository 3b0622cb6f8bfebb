import { isCloudName } from '../../fleet/documents/names.ts'
import { embeds, type RequestSpec } from '../../fleet/request-spec.ts'
import type { HealthSign } from '../availability/circuit-breaker.ts'
import { isForeign, isRoutersOwn } from '../response/not-ollama.ts'
import { errorText, parseObject } from '../response/ollama-json.ts'
import type { Refused, UpstreamFault, UpstreamOutcome } from '../response/outcome.ts'

/** What a failed attempt means. */
export interface FailureAssessment {
  /** Whether another node should get the request. */
  readonly elsewhere: boolean
  /** What it says about the health of the node. */
  readonly sign: HealthSign
  /**
   * `busy`: the node is to get no requests for a while. `model`: only this model is not to be used there: it is not
   * on the node, or its runner dies.
   */
  readonly effect?: 'busy' | 'model'
}

/**
 * How Ollama's errors begin when the node is at fault (ollama: llm/llama_server.go). Later parts of the text may
 * quote the request.
 */
const nodeFaults =
  /^(model runner has unexpectedly stopped|llama-server (process|reported|error)|timed out waiting for llama-server|an error was encountered while running the model|unexpected server status|no slots available after|health resp|server not responding)/i
/**
 * How a 500 about files on the node's disk begins: errors of the operating system, and of damaged models or manifests
 * (ollama: fs/ggml/ggml.go, manifest). A copy on another node may be intact.
 */
const diskFaults =
  /^((open|stat|lstat|read|fork\/exec) .+: |invalid file magic|unsupported model format|invalid digest format|unexpected (eof|end of json input)$)/i
/** How a runner reports lack of memory, anywhere in its output (ollama: llm/status.go). */
const memoryFaults = /cudamalloc failed|out of memory|failed to allocate/i
/**
 * Embedding endpoints wrap every failure of the runner into a 400, or a 500 on `/api/embeddings` (ollama: EmbedHandler
 * and EmbeddingsHandler in server/routes.go). A bare "EOF" is the JSON decoder's error about the request.
 */
const embedFaults =
  /^(do embedding request|error reading embed response)|: (unexpected )?eof$|connection refused$/i
/**
 * How errors about the request begin; they may go on with words of the request (ollama: server/routes.go, llama.cpp).
 */
const ownFaults = /^(invalid |option |template:|json schema|failed to parse)/i
/**
 * Go quotes text of the request in one of three ways. Quoted text is ignored: a caller could write an error of a node
 * there.
 */
const quoted = /"(?:[^"\\]|\\.)*"|`[^`]*`|<[^>]*>/g

/** Another node may be asked, as long as the caller has no byte (see `assessFailure`), and the node did badly. */
const again = { elsewhere: true, sign: 'bad' } as const
const modelFailed = { elsewhere: true, sign: 'neutral', effect: 'model' } as const
/** No other node would do better: the node did its part. */
const final = { elsewhere: false, sign: 'good' } as const

const byFault: Readonly<Record<UpstreamFault, FailureAssessment>> = {
  unreachable: { elsewhere: true, sign: 'refused' },
  'connect-timeout': { elsewhere: true, sign: 'refused' },
  'own-fault': { elsewhere: true, sign: 'neutral' }, // a kept-alive socket to another node needs no new file or port
  'stale-socket': { elsewhere: true, sign: 'neutral' },
  reset: again,
  'first-token-timeout': again,
  'answer-timeout': { elsewhere: true, sign: 'neutral' }, // a long response is no fault; see SilentModels
  'node-down': { elsewhere: true, sign: 'neutral' },
  'connection-lost': { elsewhere: true, sign: 'neutral' },
  ejected: { elsewhere: true, sign: 'neutral' },
  frozen: { elsewhere: true, sign: 'neutral' },
  'bad-response': again,
  'broken-off': again,
  stalled: again,
  truncated: again,
  'error-line': again,
  'request-timeout': { elsewhere: false, sign: 'neutral' },
}

/**
 * Assessments by status. A fault that a caller can provoke must not count against the node: one caller could open its
 * breaker.
 */
const byStatus: Readonly<Record<number, FailureAssessment>> = {
  401: { elsewhere: true, sign: 'neutral' }, // a cloud model, and this node is not signed in
  403: { elsewhere: true, sign: 'neutral' },
  404: { elsewhere: true, sign: 'good', effect: 'model' }, // the inventory is older than the disk of the node
  429: { elsewhere: true, sign: 'neutral', effect: 'busy' },
  499: { elsewhere: true, sign: 'neutral' }, // "client closed request": something between llamero and the node did
  501: final, // the model cannot embed: no other node could do it
  502: again,
  503: { elsewhere: true, sign: 'neutral', effect: 'busy' }, // its queue is full, which is no fault
  504: again,
}

/** What an assessment depends on besides the outcome. */
type Assessed = Pick<RequestSpec, 'api' | 'model' | 'variant'>

/** Assesses how an attempt ended (docs/ollama.md). Pure. */
export function assessFailure(outcome: UpstreamOutcome, spec: Assessed): FailureAssessment {
  switch (outcome.kind) {
    case 'done':
      return final
    case 'client-gone':
      return { elsewhere: false, sign: 'neutral' }
    case 'node-failed': {
      const assessment = byFault[outcome.fault]
      // The caller has bytes already: no other node can go on where they end, and a second beginning would be no answer.
      const elsewhere = assessment.elsewhere && !outcome.committed
      // The error at the end of a stream may be the request's fault, as a status may.
      return outcome.fault === 'error-line'
        ? { ...assessText(outcome.cause.message, spec, isNodeFault), elsewhere }
        : { ...assessment, elsewhere }
    }
    case 'refused':
      return assessRefusal(outcome, spec)
  }
  outcome satisfies never
}

/**
 * Statuses by which a proxy refuses a request for its size, form or content; firewalls that read bodies have a choice of
 * them. 401, 403, 404 and 407 are not among them: a proxy that lets nobody through must open the breaker.
 */
const byRequest: ReadonlySet<number> = new Set([
  400, 405, 406, 408, 409, 411, 412, 413, 414, 415, 416, 417, 418, 422, 428, 431, 451,
])

/**
 * A refusal by a proxy in front of a node says nothing about the models. A status that a request alone can provoke
 * must not open the breaker; any other counts against the way to the node.
 */
function assessForeign({ status }: Refused): FailureAssessment {
  if (status === 429) return { elsewhere: true, sign: 'neutral', effect: 'busy' }
  return { elsewhere: true, sign: byRequest.has(status) ? 'neutral' : 'bad' }
}

function assessRefusal(refused: Refused, spec: Assessed): FailureAssessment {
  if (isForeign(refused)) return assessForeign(refused)
  if (refused.body.length === 0) return assessEmpty(refused)
  // This Ollama is older than the API; another node may be newer.
  if (isRoutersOwn(refused)) return { elsewhere: true, sign: 'good' }
  const { status, body } = refused
  const text = textOf(body)
  // A limit of a cloud model, passed through with a reference: no other node can lift it.
  if (text.includes('(ref:')) return { elsewhere: false, sign: 'neutral' }
  // An error of ollama.com or of the way to it: another node may get through, and the node's own models are not
  // affected.
  if (isCloudName(spec.model) && (status === 429 || status >= 500))
    return { elsewhere: true, sign: 'neutral' }
  const known = byStatus[status]
  if (known) return known
  if (status === 500 && diskFaults.test(text)) return modelFailed
  if (embeds(spec.api) && (status === 400 || status === 500)) return assessText(text, spec, isEmbedFault)
  if (status === 500) return assessText(text, spec, isNodeFault)
  return status > 500 ? again : final
}

/** Statuses that mean something of the model, or of our Host, only when Ollama says them. */
const aboutModels: ReadonlySet<number> = new Set([403, 404, 501])

/**
 * Ollama's errors have a text, so another program answered without one. Only an empty 403 may be Ollama's: it refuses our
 * Host or Origin, which should not happen.
 */
function assessEmpty(refused: Refused): FailureAssessment {
  const { status } = refused
  if (status === 407) return { elsewhere: true, sign: 'neutral' }
  const known = aboutModels.has(status) ? undefined : byStatus[status]
  return known ?? assessForeign(refused)
}

/**
 * A runner that died may die again of the same model or request: only this model is blocked on the node for a while.
 * Nothing counts against the node: otherwise one caller with requests that kill runners would take its other models
 * from all callers.
 */
function assessText(
  text: string,
  { variant }: Assessed,
  isFault: (text: string) => boolean,
): FailureAssessment {
  const said = text.replace(quoted, '').trim()
  if (ownFaults.test(said) || !isFault(said)) return final
  // The request set its own context or layers, which may need too much memory; the model with usual options may fit.
  if (variant !== '' && memoryFaults.test(said)) return { elsewhere: true, sign: 'neutral' }
  return modelFailed
}

function isNodeFault(text: string): boolean {
  return nodeFaults.test(text) || memoryFaults.test(text)
}

/** Whether a text says that the runner died while it embedded. */
export function isRunnerLost(text: string): boolean {
  return embedFaults.test(text.replace(quoted, '').trim())
}

function isEmbedFault(text: string): boolean {
  return isNodeFault(text) || embedFaults.test(text)
}

/** The text of an Ollama error, or the whole body when it is none. */
export function textOf(body: Buffer): string {
  const text = body.toString('utf8')
  const json = parseObject(text)
  return (json && errorText(json)) ?? text
}
