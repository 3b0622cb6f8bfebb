/** What some bodies hold together. */
interface Sum {
  held: number
}

/** How much bodies may hold, in bytes. */
export interface Room {
  /** One body of this size passes, however small the budget is. */
  readonly alone: number
  /** All bodies of the instance. */
  readonly together: number
}

/** So much of each body counts for nobody in particular: small requests pass beside an owner that has used up its part. */
const smallBytes = 64 * 1024
/** One owner may hold three times what is left then: three quarters of the budget alone, and two owners 43 % each. */
const partOfRest = 3

/** One request's part of the budget. Disposing it gives back all it took, once. */
export class BodyShare implements Disposable {
  readonly #sum: Sum
  readonly #owners: Owners
  readonly #owner: string
  #own = 0
  #closed = false

  constructor(sum: Sum, owners: Owners, owner: string) {
    this.#sum = sum
    this.#owners = owners
    this.#owner = owner
  }

  /** Takes `bytes` more if they fit now. Returns whether it did. */
  take(bytes: number, room: Room): boolean {
    if (!this.fits(bytes, room)) return false
    this.#add(bytes)
    return true
  }

  /** Whether `bytes` more would fit now, beside what all hold and what the owner of this request holds. */
  fits(bytes: number, { alone, together }: Room): boolean {
    const held = this.#sum.held + bytes
    if (this.#closed || held > Math.max(alone, together)) return false
    const counted = countedOf(this.#own + bytes)
    if (counted === 0) return true
    const owned = this.#owners.heldBy(this.#owner) - countedOf(this.#own) + counted
    return owned <= Math.max(alone, partOfRest * (together - held))
  }

  /** Gives back `bytes` that it took. */
  release(bytes: number): void {
    if (!this.#closed) this.#add(-bytes)
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.#add(-this.#own)
    this.#closed = true // a chunk that comes after the end counts for no request
  }

  #add(bytes: number): void {
    const before = countedOf(this.#own)
    this.#own += bytes
    this.#sum.held += bytes
    const after = countedOf(this.#own)
    if (after !== before) this.#owners.add(this.#owner, after - before)
  }
}

/** Bytes of one body that count for its owner. */
function countedOf(bytes: number): number {
  return Math.max(0, bytes - smallBytes)
}

/** What the large bodies of each owner hold. */
class Owners {
  readonly #held = new Map<string, number>()

  heldBy(owner: string): number {
    return this.#held.get(owner) ?? 0
  }

  add(owner: string, bytes: number): void {
    const held = this.heldBy(owner) + bytes
    if (held > 0) this.#held.set(owner, held)
    else this.#held.delete(owner)
  }
}

/**
 * What the request bodies of this instance may weigh together; the one place that counts them. Bytes count when they have
 * come, not when a caller announces them: announcing costs the caller nothing.
 */
export class BodyBudget {
  readonly #sum: Sum = { held: 0 }
  readonly #owners = new Owners()

  /** Bytes held now. */
  get held(): number {
    return this.#sum.held
  }

  /** @param owner the tenant or address that the body counts for; see `ownerOf`. */
  open(owner: string): BodyShare {
    return new BodyShare(this.#sum, this.#owners, owner)
  }
}
