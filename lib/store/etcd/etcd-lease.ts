import type { Etcd3 } from 'etcd3'
import { StoreError } from '../store.ts'

/**
 * Sends one keepalive and waits for its answer, until the call's deadline.
 *
 * @returns the remaining milliseconds, 0 when the lease is gone
 */
export async function keepAlive(client: Etcd3, lease: string): Promise<number> {
  const stream = await client.leaseClient.leaseKeepAlive()
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  stream.on('error', reject)
  stream.on('end', () => reject(new StoreError('unavailable', 'etcd ended the keepalive')))
  stream.on('data', ({ TTL }) => resolve(Number(TTL) * 1000))
  stream.write({ ID: lease })
  try {
    return await promise
  } finally {
    // Both, in this order: etcd3 takes the cancellation of a stream that is still writable for a failure of the host.
    stream.end()
    stream.cancel()
  }
}
