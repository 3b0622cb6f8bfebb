/** A model name as Ollama reads it (docs/ollama.md#requests). */
export interface ModelName {
  /** What names are matched by: full, lower case. */
  readonly key: string
  /** What lists show: default host and namespace dropped, tag kept, case as written. */
  readonly short: string
  /** What errors about capabilities show. */
  readonly full: string
  readonly namespace: string
}

const defaultHost = 'registry.ollama.ai'
const defaultNamespace = 'library'
const part = /^[a-z0-9_][a-z0-9_.-]{0,79}$/i
const namespacePart = /^[a-z0-9_][a-z0-9_-]{0,79}$/i
const hostPart = /^[a-z0-9_][a-z0-9_.:-]{0,349}$/i

/** The parts of `text` with the defaults filled in, or null when Ollama would call the name invalid. */
export function parseName(text: string): ModelName | null {
  const plain = text
    .trim()
    .replace(/^https?:\/\//i, '')
    .replace(/:local$/i, '')
  const colon = plain.lastIndexOf(':')
  const tagged = colon > plain.lastIndexOf('/')
  const tag = tagged ? plain.slice(colon + 1) : 'latest'
  const segments = (tagged ? plain.slice(0, colon) : plain).split('/')
  const model = segments.pop() ?? ''
  const namespace = segments.pop() ?? defaultNamespace
  const host = segments.pop() ?? defaultHost
  if (segments.length > 0 || !part.test(model) || !part.test(tag)) return null
  if (!namespacePart.test(namespace) || !hostPart.test(host)) return null
  const full = `${host}/${namespace}/${model}:${tag}`
  return { key: full.toLowerCase(), short: shortest(full), full, namespace }
}

function shortest(full: string): string {
  const local = full.startsWith(`${defaultHost}/`) ? full.slice(defaultHost.length + 1) : full
  return local.startsWith(`${defaultNamespace}/`) ? local.slice(defaultNamespace.length + 1) : local
}
