import { findEtcd, findEtcdctl } from './etcd.ts'

/** Runs once before all tests: the first to need etcd must not spend its time on finding one. */
export async function globalSetup(): Promise<void> {
  await Promise.all([findEtcd(), findEtcdctl()])
}
