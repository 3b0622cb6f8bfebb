import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Etcd, etcdctl, spawnMember } from './etcd.ts'
import { freePort } from './processes.ts'

export interface EtcdCluster {
  readonly members: readonly Etcd[]
  /** Of all members, in the order of `members`. */
  readonly endpoints: readonly string[]
  /** The member that leads by raft, told by any that answers. */
  leader(): Promise<Etcd>
  stop(): Promise<void>
}

/** Three real etcd processes on loopback that are one cluster; resolves when each of them is healthy. */
export async function startEtcdCluster(): Promise<EtcdCluster> {
  const names = ['one', 'two', 'three']
  const peers = await Promise.all(names.map(async (name) => [name, await loopbackUrl()] as const))
  const started = await Promise.all(
    peers.map(async ([name, peer]) =>
      spawnMember(await mkdtemp(join(tmpdir(), `llamero-etcd-${name}-`)), {
        name,
        'listen-client-urls': await loopbackUrl(),
        'listen-peer-urls': peer,
        'initial-cluster': peers.map((each) => each.join('=')).join(','),
      }),
    ),
  )
  const members = started.map(({ etcd }) => etcd)
  const endpoints = members.map(({ endpoint }) => endpoint)
  const stop = async () => {
    await Promise.all(members.map((member) => member.stop()))
  }
  const leader = async () => {
    const isLeading = await Promise.all(members.map(leads))
    const member = members[isLeading.indexOf(true)]
    if (!member) throw new Error('no member leads')
    return member
  }
  await Promise.all(started.map(({ healthy }) => healthy)).catch(async (error: unknown) => {
    await stop()
    throw error
  })
  return { members, endpoints, leader, stop }
}

async function leads({ endpoint }: Etcd): Promise<boolean> {
  const [answer] = JSON.parse(await etcdctl(endpoint, 'endpoint', 'status', '--write-out=json'))
  return answer.Status.leader === answer.Status.header.member_id
}

async function loopbackUrl(): Promise<string> {
  return `http://127.0.0.1:${await freePort()}`
}
