import type { Member } from '../store.ts'
import type { EtcdClient } from './etcd-client.ts'

/** Asks one member for itself, over a connection of its own: the store's may be to another. */
export async function askMember(
  endpoint: string,
  connect: (endpoint: string) => EtcdClient,
): Promise<Member> {
  let client: EtcdClient | null = null
  try {
    client = connect(endpoint)
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
