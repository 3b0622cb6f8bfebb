import { parseDocument } from 'yaml'
import { CliFailure, exits } from '../cli-failure.ts'
import { splitAssignment } from './assignment.ts'

interface Changes {
  [field: string]: unknown
}

/**
 * The patch that `queue.max_wait=30s probes.rise=3` describes; an empty value removes a field. The API checks whether the
 * field exists and accepts the value.
 *
 * @throws Failure (usage)
 */
export function configChanges(assignments: readonly string[]): Changes {
  const changes: Changes = {}
  for (const text of assignments) {
    const [path, value] = splitAssignment(text, 'write PATH=VALUE, such as queue.max_wait=30s')
    place(changes, path.split('.'), scalar(path, value))
  }
  return changes
}

function place(changes: Changes, [field = '', ...rest]: readonly string[], value: unknown): void {
  // No prototype: a field may have any name, also `__proto__`.
  const own = Object.hasOwn(changes, field) ? changes[field] : undefined
  const inner = rest.length === 0 ? value : isChanges(own) ? own : {}
  Object.defineProperty(changes, field, {
    value: inner,
    enumerable: true,
    writable: true,
    configurable: true,
  })
  if (rest.length > 0) place(inner as Changes, rest, value)
}

function isChanges(value: unknown): value is Changes {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The value as YAML: a number, a boolean, a list, or text. */
function scalar(path: string, text: string): unknown {
  const document = parseDocument(text, { version: '1.2', schema: 'core', logLevel: 'error' })
  const [fault] = document.errors
  if (fault) throw new CliFailure(exits.usage, `${path}: the value is not YAML`, 'quote it: PATH=\'"VALUE"\'')
  return document.toJS({ maxAliasCount: 0 })
}
