import type { InstanceList } from '../../api/instances.ts'
import { printable } from '../terminal/table.ts'

/** An instance that ended: which one, where, since when and how. */
export function missingText({ id, host, since, how }: InstanceList['missing'][number]): string {
  const name = printable(host ? `${id} on ${host}` : id)
  return how === 'stopped'
    ? `instance ${name} was stopped at ${since}`
    : `instance ${name} is missing since ${since}: it ended without a clean stop, or is cut off from the store`
}
