import { noTokens, type Outcome } from './outcome.ts'
import { type Delivery, type Recipient, ToCaller } from './to-caller.ts'

/** An answer of which nothing is known: it goes out as it comes, whatever its status. */
export class PassDelivery extends ToCaller<Recipient> implements Delivery {
  readonly tokens = noTokens

  take(chunk: Buffer): Outcome | null {
    this.#begin()
    this.addressee.response.write(chunk)
    return null
  }

  finish(): Outcome {
    this.#begin()
    this.addressee.response.end()
    return { kind: 'done', tokens: noTokens, timings: null }
  }

  #begin(): void {
    if (!this.committed) this.commit(this.head.headers['content-length'])
  }
}
