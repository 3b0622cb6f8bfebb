import type { ModelDetail } from '../../api/models.ts'
import { canonicalName } from '../../fleet/documents/names.ts'
import type { AdminClient } from '../admin-client.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { suggesting } from '../suggestion.ts'

/** The details of one model. @throws Failure that suggests a similar name. */
export async function getModel(admin: AdminClient, name: string): Promise<ModelDetail> {
  const canonical = canonicalName(name)
  if (canonical === null)
    throw new CliFailure(
      exits.usage,
      `"${name}" cannot be the name of a model`,
      'write a name such as llama3.2:3b',
    )
  return namedModel(admin, canonical, admin.get(`/models/${encodeURIComponent(canonical)}`))
}

/** The result of a `call` about a model. When there is no such model, the failure suggests a similar name. */
export function namedModel<T>(admin: AdminClient, name: string, call: Promise<T>): Promise<T> {
  const known = async () => (await admin.get('/models')).models.map((model) => model.name)
  return suggesting(name, call, known, 'llamero model list')
}
