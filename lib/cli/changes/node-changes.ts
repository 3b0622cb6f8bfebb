import { isStoreName, storeNameRule } from '../../fleet/documents/names.ts'
import { nodeUrlFault, nodeUrlOf } from '../../fleet/node-url.ts'
import { didYouMean } from '../../shared/did-you-mean.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { splitAssignment } from './assignment.ts'

/** Fields that `node set` takes. `headers` may contain secrets and `tls` certificates: neither belongs on a command line. */
export const settableFields = [
  'url',
  'weight',
  'slots',
  'memory',
  'max_loaded',
  'keep_alive',
  'state',
] as const

export const keepAliveHelp =
  'how long models that llamero loads stay in its memory, such as 30m; own: its OLLAMA_KEEP_ALIVE'

/** Path of a node in the admin API. @throws Failure (usage) when the name cannot be one: it becomes part of a URL. */
export function nodePath(name: string): `/nodes/${string}` {
  if (!isStoreName(name))
    throw new CliFailure(exits.usage, `"${name}" cannot be the name of a node: ${storeNameRule}`)
  return `/nodes/${name}`
}

/** The URL in the form that the API stores. @throws Failure (usage) that names the fault. */
export function nodeUrl(text: string): string {
  const fault = nodeUrlFault(text)
  if (fault) throw new CliFailure(exits.usage, fault)
  return nodeUrlOf(text)
}

/** `["zone=a"]` as labels. @throws Failure (usage) */
export function labelsOf(assignments: readonly string[]): Record<string, string> {
  return Object.fromEntries(assignments.map((text) => splitAssignment(text, '--label takes KEY=VALUE')))
}

/** The patch that `weight=2 labels.zone=a slots=` describes; null removes a field. @throws Failure (usage) */
export function changesOf(assignments: readonly string[]): Record<string, unknown> {
  const changes: Record<string, unknown> = {}
  const labels: Record<string, string | null> = {}
  for (const text of assignments) {
    const [field, value] = splitAssignment(text, 'write FIELD=VALUE')
    if (field.startsWith('labels.')) labels[field.slice('labels.'.length)] = value || null
    else changes[known(field)] = fieldValue(field, value)
  }
  return Object.keys(labels).length > 0 ? { ...changes, labels } : changes
}

function known(field: string): string {
  if ((settableFields as readonly string[]).includes(field)) return field
  const meant = didYouMean(field, [...settableFields, 'labels'])
  throw new CliFailure(
    exits.usage,
    `"${field}" is not a field that can be set`,
    meant
      ? `did you mean "${meant === 'labels' ? 'labels.KEY' : meant}"?`
      : `fields: ${settableFields.join(', ')}, labels.KEY`,
  )
}

/** The text as a number, if it is one. The API checks whether the field accepts it. */
function fieldValue(field: string, value: string): unknown {
  if (value === '') return null
  if (field === 'url') return nodeUrl(value)
  return Number.isNaN(Number(value)) ? value : Number(value)
}
