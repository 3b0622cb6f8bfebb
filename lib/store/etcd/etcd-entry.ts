import type { IKeyValue } from 'etcd3'
import type { Entry } from '../store.ts'

/** etcd's numbers are decimal strings of 64 bits; lease 0 is none. */
export function entryOf(kv: IKeyValue): Entry {
  return {
    key: kv.key.toString(),
    value: kv.value.toString(),
    created: BigInt(kv.create_revision),
    modified: BigInt(kv.mod_revision),
    lease: kv.lease === '0' ? null : kv.lease,
  }
}
