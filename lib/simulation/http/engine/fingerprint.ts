import { parseDuration } from '../../../shared/duration.ts'
import { Refusal } from '../refusal.ts'

/** The load-time options of a runner. Ollama reloads the runner for a request with others (docs/ollama.md#requests). */
export interface Fingerprint {
  /** Null: automatic. */
  readonly numCtx: number | null
  /** Null: automatic. */
  readonly numBatch: number | null
  /** -1 matches anything. */
  readonly numGpu: number
  /** The rest, as one string to compare. */
  readonly rest: string
}

const defaultNumBatch = 512
const integers = [
  'num_ctx',
  'num_batch',
  'num_gpu',
  'main_gpu',
  'num_thread',
  'draft_num_predict',
  'num_keep',
  'seed',
  'num_predict',
  'top_k',
  'repeat_last_n',
]

/** The load-time options of a request. @throws Refusal 500 on a wrong type, as Ollama does when it schedules. */
export function fingerprintOf(options: Readonly<Record<string, unknown>>, shift: boolean): Fingerprint {
  for (const name of integers) {
    if (options[name] !== undefined && typeof options[name] !== 'number') {
      throw new Refusal(500, `option "${name}" must be of type integer`)
    }
  }
  const { main_gpu = 0, use_mmap = null, num_thread = 0, draft_num_predict = 0 } = options
  return {
    numCtx: numberOr(options['num_ctx'], null),
    numBatch: numberOr(options['num_batch'], null),
    numGpu: numberOr(options['num_gpu'], -1),
    rest: JSON.stringify([main_gpu, use_mmap, num_thread, draft_num_predict, shift]),
  }
}

/**
 * Whether a runner loaded as `had`, with `ctx` tokens of context, must be reloaded for `want`.
 * @param wantCtx the context of `want`, at most what the model was trained for.
 */
export function needsReload(had: Fingerprint, ctx: number, want: Fingerprint, wantCtx: number): boolean {
  const bothAutomatic = had.numCtx === null && want.numCtx === null
  if (!bothAutomatic && wantCtx !== ctx) return true
  if ((had.numBatch ?? defaultNumBatch) !== (want.numBatch ?? defaultNumBatch)) return true
  if (want.numGpu >= 0 && want.numGpu !== had.numGpu) return true
  return had.rest !== want.rest
}

/**
 * Milliseconds of a `keep_alive` field: a number of seconds or a Go duration. Negative is forever (Infinity); null when
 * the field is absent. @throws Refusal 400 with Go's words.
 */
export function keepAliveMs(value: unknown): number | null {
  if (value === undefined) return null
  if (typeof value === 'number') return value < 0 ? Number.POSITIVE_INFINITY : value * 1000
  if (typeof value !== 'string') throw new Refusal(400, `Unsupported type: '${goTypeOf(value)}'`)
  if (value === '0') return 0
  const ms = parseDuration(value.replace(/^-/, ''))
  if (ms === null) throw new Refusal(400, `time: invalid duration ${JSON.stringify(value)}`)
  return value.startsWith('-') ? Number.POSITIVE_INFINITY : ms
}

/** As Go's reflect.TypeOf names what JSON holds. */
function goTypeOf(value: unknown): string {
  if (Array.isArray(value)) return '[]interface {}'
  return typeof value === 'boolean' ? 'bool' : 'map[string]interface {}'
}

function numberOr<T>(value: unknown, otherwise: T): number | T {
  return typeof value === 'number' ? value : otherwise
}
