import type { Config } from '../../fleet/config.ts'
import { registryOf } from '../../fleet/documents/names.ts'
import { ProxyError } from '../../shared/errors.ts'
import { maySee } from '../admission/model-routing.ts'
import type { Caller } from '../http/authenticate.ts'
import { notFound, type RequestedJob } from './job-request.ts'

/**
 * Checks that the operator permits the job, and that the caller's key covers its models. A node fetches from any
 * host, within its own network (docs/ollama.md#security): so only configured registries are permitted.
 *
 * @throws ProxyError `forbidden` naming the setting; that of `notFound` for a model the key does not cover.
 */
export function permit(job: RequestedJob, caller: Caller, { management }: Config): void {
  const { action, source, made, body } = job
  if (action === 'push' && !management.push)
    throw forbidden(
      'pushing uses the ollama.com account of one Ollama server; an operator can allow it with management.push (llamero config edit)',
    )
  if (body['insecure'] === true && !management.insecure)
    throw forbidden(
      '"insecure" is not permitted; an operator can allow it with management.insecure (llamero config edit)',
    )
  if (source && !maySee(caller, source.canonical)) throw notFound(job)
  if (made && !maySee(caller, made.canonical))
    throw forbidden(`this key does not cover model '${made.written}'; ask an operator for a key that does`)
  const remote = action === 'pull' ? made : action === 'push' ? source : null
  const registry = remote && registryOf(remote.canonical)
  if (registry && !management.registries.includes(registry))
    throw forbidden(
      `models of ${registry} are not permitted; an operator can add it to management.registries (llamero config edit)`,
    )
}

function forbidden(reason: string): ProxyError {
  return new ProxyError('forbidden', { reason })
}
