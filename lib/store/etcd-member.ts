import { Etcd3 } from 'etcd3'
import { clientOptions, type EtcdOptions } from './etcd-link.ts'
import type { Member } from './store.ts'

/** Asks one member for itself, over a connection of its own: the store's may be to another. */
export async function askMember(endpoint: string, tls: EtcdOptions['tls']): Promise<Member> {
  let client: Etcd3 | null = null
  try {
    client = new Etcd3(clientOptions(endpoint, tls))
    const [{ header }, { members }] = await Promise.all([
      client.maintenance.status(),
      client.cluster.memberList({}),
    ])
    const self = members.find(({ ID }) => ID === header.member_id)
    return { name: self?.name ?? '', endpoint, ok: true }
  } catch {
    return { name: '', endpoint, ok: false } // down or unreachable: that is the answer
  } finally {
    client?.close()
  }
}
