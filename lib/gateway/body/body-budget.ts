/** Bytes held by all bodies. */
interface Sum {
  held: number
}

/** How many bytes bodies may hold. */
export interface Room {
  /** One body of this size always fits, however small the budget is. */
  readonly alone: number
  /** All bodies of the instance. */
  readonly together: number
}

/** Bytes of each body that do not count for its owner: small requests pass even when the owner has used up its part. */
const smallBytes = 64 * 1024
/** An owner may hold three times what is then left: three quarters of the budget alone, two owners 43 % each. */
const partOfRest = 3

/** The part of the budget that one request holds. Disposing it releases all of it, once. */
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

  /** Takes `bytes` more if they fit now. Returns whether they did. */
  take(bytes: number, room: Room): boolean {
    if (!this.fits(bytes, room)) return false
    this.#add(bytes)
    return true
  }

  /** Whether `bytes` more would fit now, within the budget of all and of the owner. */
  fits(bytes: number, { alone, together }: Room): boolean {
    const held = this.#sum.held + bytes
    if (this.#closed || held > Math.max(alone, together)) return false
    const counted = countedOf(this.#own + bytes)
    if (counted === 0) return true
    const owned = this.#owners.heldBy(this.#owner) - countedOf(this.#own) + counted
    return owned <= Math.max(alone, partOfRest * (together - held))
  }

  /** Releases `bytes`. */
  release(bytes: number): void {
    if (!this.#closed) this.#add(-bytes)
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.#add(-this.#own)
    this.#closed = true // a chunk that comes later counts for no request
  }

  #add(bytes: number): void {
    const before = countedOf(this.#own)
    this.#own += bytes
    this.#sum.held += bytes
    const after = countedOf(this.#own)
    if (after !== before) this.#owners.add(this.#owner, after - before)
  }
}

/** Bytes of a body that count for its owner. */
function countedOf(bytes: number): number {
  return Math.max(0, bytes - smallBytes)
}

/** Bytes that the large bodies of each owner hold. */
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
 * The budget of all request bodies of this instance; the only place that counts them. Bytes count when they have
 * come, not when the caller announces them: announcing costs the caller nothing.
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
