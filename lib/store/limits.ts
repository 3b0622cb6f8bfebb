import { type Operation, StoreError, type Transaction } from './store.ts'

/** etcd's defaults for `--max-txn-ops` and (less room for its envelope) `--max-request-bytes`. */
const maxOperations = 128
const maxBytes = 1_500_000
/** Bytes of a batch of writes. Below the limit, because the conditions add to them. */
const maxBatchBytes = 1_400_000

/**
 * Refuses the transactions that etcd would refuse, before they are sent: both stores then refuse the same ones with the same error.
 *
 * @throws StoreError `denied`
 */
export function checkTransaction({ when, apply, otherwise = [] }: Transaction): void {
  const longest = Math.max(when.length, apply.length, otherwise.length)
  if (longest > maxOperations) throw refusal(`has ${longest} operations; the most is ${maxOperations}`)

  let bytes = 0
  const puts = new Set<string>()
  const deletes = new Set<string>()
  for (const operation of apply) {
    const { type, key } = operation
    const clash = puts.has(key) || (type === 'put' && deletes.has(key))
    if (clash) throw refusal(`changes ${key} twice`)
    if (type === 'put') bytes += Buffer.byteLength(operation.value)
    bytes += Buffer.byteLength(key)
    if (type === 'put') puts.add(key)
    else deletes.add(key)
  }
  if (bytes > maxBytes) throw refusal(`is ${bytes} bytes; the most is ${maxBytes}`)
}

/** Divides writes into transactions that the store accepts. */
export function batchesOf(operations: readonly Operation[]): Operation[][] {
  const batches: Operation[][] = []
  let bytes = Number.POSITIVE_INFINITY
  for (const operation of operations) {
    const size = operation.key.length + (operation.type === 'put' ? Buffer.byteLength(operation.value) : 0)
    const batch = batches.at(-1)
    if (batch && batch.length < maxOperations && bytes + size <= maxBatchBytes) {
      batch.push(operation)
      bytes += size
    } else {
      batches.push([operation])
      bytes = size
    }
  }
  return batches
}

/**
 * A prefix that does not end in "/" also covers neighbours with a longer name (docs/etcd.md#key-layout).
 *
 * @throws StoreError `denied`
 */
export function checkPrefix(prefix: string): void {
  if (!prefix.endsWith('/')) throw new StoreError('denied', `prefix "${prefix}" does not end in "/"`)
}

function refusal(reason: string): StoreError {
  return new StoreError('denied', `the transaction ${reason}`)
}
