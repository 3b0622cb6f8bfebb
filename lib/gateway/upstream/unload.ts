import { canonicalName } from '../../fleet/documents/names.ts'
import type { Clock } from '../../shared/clock.ts'
import { asObject, parseObject } from '../response/ollama-json.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'

/** Milliseconds that a node may take to unload a model, and between two checks. */
const unloadMs = 10_000
const pollMs = 100

/** A request of llamero itself to a node's API. */
export interface NodeRequest {
  readonly method: 'GET' | 'POST'
  readonly path: string
  readonly body: string
  readonly limitMs: number
}

interface UnloadOptions {
  readonly send: (request: NodeRequest) => Promise<UpstreamOutcome>
  readonly clock: Clock
  readonly signal: AbortSignal
}

/**
 * Unloads models from a node, by their canonical names, and waits until they have left its memory. Ollama answers
 * such a request at once, and unloads when the running requests are done (ollama: expireRunner in server/sched.go).
 * Resolves to the models that stayed in memory; null when the node does not say what is loaded.
 *
 * @throws the signal's reason.
 */
export async function unload(
  models: readonly string[],
  { send, clock, signal }: UnloadOptions,
): Promise<readonly string[] | null> {
  const until = clock.now() + unloadMs
  await Promise.all(models.map((model) => send(unloadRequest(model))))
  for (;;) {
    const loaded = loadedIn(await send(psRequest))
    if (!loaded) return null
    const kept = models.filter((model) => loaded.has(model))
    if (kept.length === 0 || clock.now() >= until) return kept
    await clock.sleep(pollMs, signal)
  }
}

/** A request without a prompt unloads any model (ollama: GenerateHandler in server/routes.go). */
function unloadRequest(model: string): NodeRequest {
  const body = JSON.stringify({ model, keep_alive: 0, stream: false })
  return { method: 'POST', path: '/api/generate', body, limitMs: unloadMs }
}

const psRequest: NodeRequest = { method: 'GET', path: '/api/ps', body: '', limitMs: unloadMs }

/** Canonical names of the loaded models; null when the response does not say. */
function loadedIn(outcome: UpstreamOutcome): ReadonlySet<string> | null {
  if (outcome.kind !== 'refused' || outcome.status !== 200) return null
  const models = parseObject(outcome.body.toString('utf8'))?.['models']
  if (!Array.isArray(models)) return null
  return new Set(models.map((model) => canonicalName(String(asObject(model)?.['name'])) ?? ''))
}
