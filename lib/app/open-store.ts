import { randomUUID } from 'node:crypto'
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readOrCreateToken } from '../admin/token.ts'
import { CurrentSnapshot } from '../fleet/snapshot.ts'
import { adminTokenFile } from '../settings/admin-token.ts'
import type { Settings } from '../settings/settings.ts'
import type { Log } from '../shared/log.ts'
import { directoryFault } from '../shared/process/secret-file.ts'
import type { Runtime } from '../shared/runtime.ts'
import { stateError } from '../start-error.ts'
import { EmbeddedStore } from '../store/embedded/embedded-store.ts'
import { EtcdStore } from '../store/etcd/etcd-store.ts'
import { KeyLayout } from '../store/key-layout.ts'
import type { Store } from '../store/store.ts'

/** What both planes of an instance share. */
export interface Foundation extends Runtime {
  readonly settings: Settings
  /** Random per process. */
  readonly boot: string
  /** The admin token in the state directory. */
  readonly token: string
  readonly store: Store
  readonly keys: KeyLayout
  /** Written by the control plane, read by both. */
  readonly snapshot: CurrentSnapshot
}

/** Prepares the state directory and opens the store. @throws {StartError} when the state directory cannot be used */
export async function openStore(settings: Settings, runtime: Runtime): Promise<Foundation> {
  const token = await openState(settings.state, runtime.log).catch((error) => {
    throw stateError(settings.state, error)
  })
  return {
    ...runtime,
    settings,
    boot: randomUUID(),
    token,
    store: await storeFor(settings, runtime),
    keys: new KeyLayout(settings.cluster),
    snapshot: new CurrentSnapshot(),
  }
}

/** Makes the state directory if there is none; resolves to the admin token in it. */
async function openState(directory: string, log: Log): Promise<string> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const fault = directoryFault(directory, await stat(directory))
  if (fault !== null) log.warn('the state directory is not safe', { reason: fault })
  return readOrCreateToken(adminTokenFile(directory))
}

function storeFor({ etcd, etcdTls, state }: Settings, runtime: Runtime): Promise<Store> | Store {
  if (etcd.length > 0) return new EtcdStore({ endpoints: etcd, ...(etcdTls && { tls: etcdTls }), ...runtime })
  runtime.metrics.storeUp.set(1) // a file of this machine is always within reach
  return EmbeddedStore.open(join(state, 'store.journal'), runtime)
}

/**
 * A file of this instance in its state directory. The name holds cluster and instance: instances may share a directory, and
 * none may start from the file of another cluster.
 */
export function ownFile({ state, cluster, name }: Settings, what: string, suffix = ''): string {
  return join(state, `${what}-${cluster}-${name}${suffix}`)
}
