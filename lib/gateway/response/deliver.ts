import { isUnlisted } from '../../fleet/request-spec.ts'
import { isStreamType } from '../http/error-response.ts'
import { HeldDelivery } from './held-delivery.ts'
import { PassDelivery } from './pass-delivery.ts'
import type { ApiRecipient, Delivery, ResponseHead } from './response-writer.ts'
import { StreamDelivery } from './stream-delivery.ts'
import { WholeDelivery } from './whole-delivery.ts'

/** The delivery for a response. */
export function deliver(head: ResponseHead, recipient: ApiRecipient): Delivery {
  if (head.status >= 400) return new HeldDelivery(head)
  if (isUnlisted(recipient.api)) return new PassDelivery(head, recipient)
  return isStreamType(head.contentType)
    ? new StreamDelivery(head, recipient)
    : new WholeDelivery(head, recipient)
}
