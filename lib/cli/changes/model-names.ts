import type { ModelDetail } from '../../api/models.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import type { AdminClient } from '../admin-client.ts'
import { CliFailure, exits } from '../failure.ts'
import { suggesting } from '../suggestion.ts'

/** All about one model. @throws Failure that suggests the name which may have been meant. */
export async function getModel(admin: AdminClient, name: string): Promise<ModelDetail> {
  const canonical = canonicalName(name)
  if (canonical === null) throw new CliFailure(exits.usage, `"${name}" cannot be the name of a model`)
  return namedModel(admin, canonical, admin.get(`/models/${encodeURIComponent(canonical)}`))
}

/** The outcome of a `call` about a model; where there is no such model, with a suggestion. */
export function namedModel<T>(admin: AdminClient, name: string, call: Promise<T>): Promise<T> {
  const known = async () => (await admin.get('/models')).models.map((model) => model.name)
  return suggesting(name, call, known, 'llamero model list')
}
