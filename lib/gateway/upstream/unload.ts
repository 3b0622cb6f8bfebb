import { canonicalName } from '../../fleet/documents/names.ts'
import type { Clock } from '../../shared/clock.ts'
import { asObject, parseObject } from '../response/ollama-json.ts'
import type { UpstreamOutcome } from '../response/outcome.ts'

/** How long a node may take to unload a model, and how often it is asked whether it has, in milliseconds. */
const unloadMs = 10_000
const pollMs = 100

/** A request to a node's own API, for ourselves. */
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
 * Has a node unload models, by their canonical names, and watches its memory. Ollama answers such a request at once, and
 * unloads when what runs is done (ollama: expireRunner in server/sched.go). Resolves to the models that it did not let go
 * of in time; null when the node does not tell what it has.
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

/** Without a prompt it unloads, whatever the model can do (ollama: GenerateHandler in server/routes.go). */
function unloadRequest(model: string): NodeRequest {
  const body = JSON.stringify({ model, keep_alive: 0, stream: false })
  return { method: 'POST', path: '/api/generate', body, limitMs: unloadMs }
}

const psRequest: NodeRequest = { method: 'GET', path: '/api/ps', body: '', limitMs: unloadMs }

/** Canonical names of what is in the memory; null when the answer does not tell. */
function loadedIn(outcome: UpstreamOutcome): ReadonlySet<string> | null {
  if (outcome.kind !== 'refused' || outcome.status !== 200) return null
  const models = parseObject(outcome.body.toString('utf8'))?.['models']
  if (!Array.isArray(models)) return null
  return new Set(models.map((model) => canonicalName(String(asObject(model)?.['name'])) ?? ''))
}
