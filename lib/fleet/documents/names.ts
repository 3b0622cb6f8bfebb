import { matchesGlob } from './glob.ts'

/**
 * Model names as Ollama reads them: `[host/][namespace/]model[:tag]`, case-insensitive, with defaults
 * (reference: ollama types/model/name.go; docs/ollama.md#requests).
 */
const defaultHost = 'registry.ollama.ai'
const defaultNamespace = 'library'
const latestTag = ':latest'
/** Most names have this form and are canonical: `:local` says where a model runs, not which it is. */
const plain = /^[a-z0-9_][a-z0-9_.-]{0,79}:(?!local$)[a-z0-9_][a-z0-9_.-]{0,79}$/
const part = /^[a-z0-9_][a-z0-9_.-]{0,79}$/
const namespacePart = /^[a-z0-9_][a-z0-9_-]{0,79}$/
const hostPart = /^[a-z0-9_][a-z0-9_.:-]{0,349}$/

/**
 * The one spelling under which a model is routed, limited and shown: trimmed, lower case, default host and namespace
 * dropped, the tag always present. `Llama3` and `library/llama3:latest` are both `llama3:latest`.
 * Returns null when Ollama would not accept the name.
 */
export function canonicalName(name: string): string | null {
  if (plain.test(name)) return name
  if (namesTwoSources(name)) return null
  const text = name
    .trim()
    .toLowerCase()
    .replace(/^https?:\/\//, '')
    .replace(/:local$/, '')
    // A cloud model with a tag: the name under which a node lists it.
    .replace(/(:[^:/]+):cloud$/, '$1-cloud')
  const slash = text.lastIndexOf('/')
  const colon = text.lastIndexOf(':')
  const tagged = colon > slash
  const tag = tagged ? text.slice(colon + 1) : 'latest'
  const segments = (tagged ? text.slice(0, colon) : text).split('/')
  const model = segments.pop() ?? ''
  const namespace = segments.pop() ?? defaultNamespace
  const host = segments.pop() ?? defaultHost
  if (tag === 'local') return null
  if (segments.length > 0 || !part.test(model) || !part.test(tag)) return null
  if (!namespacePart.test(namespace) || !hostPart.test(host)) return null
  if (host !== defaultHost) return `${host}/${namespace}/${model}:${tag}`
  return namespace === defaultNamespace ? `${model}:${tag}` : `${namespace}/${model}:${tag}`
}

/**
 * Whether a pattern that an operator wrote covers a model, by its canonical name: in routes, keys and `models` alike.
 *
 * Without `*` the pattern is a name as Ollama reads it, so one without a tag means `:latest`. With `*` it is compared with
 * the canonical name, and for the tag `latest` also with the name without it: `*-chat` covers `my-chat:latest`.
 */
export function matchesModel(pattern: string, name: string): boolean {
  if (pattern === '*' || pattern === name) return true
  if (!pattern.includes('*')) return (canonicalName(pattern) ?? pattern.toLowerCase()) === name
  const subject = pattern.includes('/') ? spelledLike(pattern.toLowerCase(), name) : name
  if (matchesGlob(pattern, subject)) return true
  // A pattern that ends in "*" covers both or neither.
  return (
    subject.endsWith(latestTag) &&
    !pattern.endsWith('*') &&
    matchesGlob(pattern, subject.slice(0, -latestTag.length))
  )
}

/** With the default host or namespace, where the pattern begins with that. */
function spelledLike(pattern: string, name: string): string {
  const depth = name.split('/').length
  const owned = depth === 1 ? `${defaultNamespace}/${name}` : name
  if (pattern.startsWith(`${defaultHost}/`) && depth < 3) return `${defaultHost}/${owned}`
  return pattern.startsWith(`${defaultNamespace}/`) ? owned : name
}

/** Whether a name means a model that ollama.com runs: `name:cloud`, `name:tag:cloud`, `name:tag-cloud` (docs/ollama.md#requests). */
export function isCloudName(name: string): boolean {
  const text = name.trim().toLowerCase()
  // The end of most names is enough.
  return text.endsWith('cloud') && /:([^/:]*-)?cloud$/.test(text)
}

/** Whether a name asks for a model of the node's own and for one in the cloud at once, which Ollama refuses. */
export function namesTwoSources(name: string): boolean {
  return /:local:cloud$|[:-]cloud:local$/i.test(name.trim())
}

/** The namespace of a canonical name: the owner that OpenAI's clients are shown. */
export function namespaceOf(name: string): string {
  return name.split('/').at(-2) ?? defaultNamespace
}

/** The registry that a canonical name is fetched from. */
export function registryOf(name: string): string {
  return name.split('/').at(-3) ?? defaultHost
}

/** Whether `text` may name a node, an instance, a route or a key id: it becomes part of a key in the store. */
export function isStoreName(text: string): boolean {
  return /^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$/i.test(text)
}

/** The rule that `isStoreName` checks, for error texts. */
export const storeNameRule =
  'a name is 1-63 letters, digits, ".", "_" or "-", and begins and ends with a letter or digit'
