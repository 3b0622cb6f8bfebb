import type { NodeView } from '../node.ts'

/** Ollama's words in refusals that differ from the words in its lists (ollama: server/routes.go, server/images.go). */
const otherWords: ReadonlyMap<string, string> = new Map([
  ['chat', 'completion'],
  ['generate', 'completion'],
])

/** The capability that a model lacks, as `capabilities` in `/api/tags` names it; null when the text is another error. */
export function missingCapability(text: string): string | null {
  const word = / does not support ([a-z]+)$/m.exec(text)?.[1]
  return word === undefined ? null : (otherWords.get(word) ?? word)
}

/** Whether the node's own list says that its copy of a model has a capability. */
export function claims({ status }: NodeView, model: string, capability: string): boolean {
  const copy = status?.models.find(({ name }) => name === model)
  return copy?.capabilities?.includes(capability) ?? false
}
