import { isUnlisted } from '../../fleet/request-spec.ts'
import type { CurrentSnapshot, Snapshot } from '../../fleet/snapshot.ts'
import type { Clock } from '../../shared/clock.ts'
import { ProxyError } from '../../shared/errors.ts'
import { isSpace, openBrace } from '../../shared/json/json-bytes.ts'
import { scanBody } from '../body/scan-body.ts'
import type { Caller } from '../http/authenticate.ts'
import type { Exchange } from '../http/exchange.ts'
import { type ForwardEndpoint, unknownPath } from '../http/find-endpoint.ts'
import { type AdmittedRequest, admit } from './admit.ts'
import { namesFor } from './request-options.ts'
import { onceProbed } from './wait-until-probed.ts'

/** What was decided, and the snapshot that it was decided by. */
interface Decision {
  readonly admitted: AdmittedRequest
  readonly now: Snapshot
}

/**
 * Scans the JSON body of a request and decides about it; waits for the first probe of nodes that may have its model.
 *
 * @throws ProxyError `missing_body`, `bad_json`, `unknown_path` on an unlisted path unless the body names a model, and those
 *   of `admit`; the reason of the exchange's signal.
 */
export async function admitBody(
  exchange: Exchange,
  endpoint: ForwardEndpoint,
  caller: Caller,
  bytes: Buffer,
  probed: { readonly snapshot: CurrentSnapshot; readonly clock: Clock },
): Promise<Decision> {
  const mustNameModel = isUnlisted(endpoint.api)
  if (mustNameModel && !mayBeObject(bytes)) throw unknownPath(exchange.path)
  if (bytes.length === 0) throw new ProxyError('missing_body')
  const scan = scanBody(bytes, namesFor(endpoint.api), exchange.signal)
  // A small body is scanned at once: awaiting it all the same would cost a small request a turn.
  const scanned = scan instanceof Promise ? await scan : scan
  if (mustNameModel && !scanned.model) throw unknownPath(exchange.path)
  const body = { bytes, scanned }
  const decide = (now: Snapshot) => ({ admitted: admit(exchange, endpoint, caller, body, now), now })
  return await onceProbed(decide, exchange, probed)
}

function mayBeObject(bytes: Buffer): boolean {
  let at = 0
  while (isSpace[bytes[at] ?? 0] === 1) at++
  return bytes[at] === openBrace
}
