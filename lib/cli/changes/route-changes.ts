import { isStoreName, storeNameRule } from '../../fleet/documents/names.ts'
import { didYouMean } from '../../shared/did-you-mean.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { splitAssignment } from './assignment.ts'

/** Fields that `route set` takes, besides labels of nodes. */
export const settableFields = ['match.model', 'match.tenant', 'model', 'fallback', 'class'] as const

/** Path of a route in the admin API. @throws Failure (usage) when the name cannot be one: it becomes part of a URL. */
export function routePath(name: string): `/routes/${string}` {
  if (!isStoreName(name))
    throw new CliFailure(exits.usage, `"${name}" cannot be the name of a route: ${storeNameRule}`)
  return `/routes/${name}`
}

interface Changes {
  match?: Record<string, string | null>
  nodes?: Record<string, string | null>
  model?: string | null
  fallback?: readonly string[] | null
  class?: string | null
}

/** The patch that `match.model=gpt-* fallback=a,b nodes.zone=` describes; null removes a field. @throws Failure (usage) */
export function routeChanges(assignments: readonly string[]): Changes {
  const changes: Changes = {}
  for (const text of assignments) {
    const [field, written] = splitAssignment(text, 'write FIELD=VALUE')
    change(changes, field, written || null)
  }
  return changes
}

function change(changes: Changes, field: string, value: string | null): void {
  if (field === 'match.model' || field === 'match.tenant')
    changes.match = { ...changes.match, [field.slice('match.'.length)]: value }
  else if (field.startsWith('nodes.'))
    changes.nodes = { ...changes.nodes, [field.slice('nodes.'.length)]: value }
  else if (field === 'model' || field === 'class') changes[field] = value
  else if (field === 'fallback') changes.fallback = value === null ? null : value.split(',')
  else throw unknownField(field)
}

function unknownField(field: string): CliFailure {
  const meant = didYouMean(field, settableFields)
  return new CliFailure(
    exits.usage,
    `"${field}" is not a field that can be set`,
    meant ? `did you mean "${meant}"?` : `fields: ${settableFields.join(', ')}, nodes.KEY`,
  )
}
