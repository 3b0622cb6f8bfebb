import { isUnlisted } from '../../fleet/request-spec.ts'
import { isStream } from '../http/error-response.ts'
import { HeldDelivery } from './held-delivery.ts'
import { PassDelivery } from './pass-delivery.ts'
import type { Addressee, AnswerHead, Delivery } from './response-writer.ts'
import { StreamDelivery } from './stream-delivery.ts'
import { WholeDelivery } from './whole-delivery.ts'

/** The delivery that fits the answer. */
export function deliver(head: AnswerHead, addressee: Addressee): Delivery {
  if (head.status >= 400) return new HeldDelivery(head)
  if (isUnlisted(addressee.api)) return new PassDelivery(head, addressee)
  return isStream(head.contentType) ? new StreamDelivery(head, addressee) : new WholeDelivery(head, addressee)
}
