import { z } from 'zod'

const rule =
  'must be a duration such as "30m", a number of seconds, -1 for ever, or "own" for the OLLAMA_KEEP_ALIVE of the Ollama server'

/** How long a model stays in memory after its last request, as Ollama writes it (api/types.go, Duration.UnmarshalJSON). */
export const keepAliveSchema = z.union(
  [
    z.number().refine((seconds) => seconds !== 0, rule),
    z.string().regex(/^(own|-?(?=.*[1-9])(\d+(\.\d+)?(ms|s|m|h))+)$/, rule),
  ],
  rule,
)

type KeepAlive = z.output<typeof keepAliveSchema>

/**
 * The `keep_alive` of a load by llamero: that of the node's document, else `routing.keep_alive`. For "own" none is sent, and
 * OLLAMA_KEEP_ALIVE of the node counts. Requests to a loaded model never send one: a duration given to a runner that Ollama
 * is evicting hangs every load on its node (ollama#17408).
 */
export function keepAliveOf(
  node: { readonly keep_alive?: KeepAlive | undefined } | undefined,
  { routing }: { readonly routing: { readonly keep_alive: KeepAlive } },
): { readonly keep_alive?: number | string } {
  const keep_alive = node?.keep_alive ?? routing.keep_alive
  return keep_alive === 'own' ? {} : { keep_alive }
}
