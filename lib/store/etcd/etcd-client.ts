import type { SecureContext } from 'node:tls'
import { InterceptingCall, type Interceptor, logVerbosity, setLogVerbosity } from '@grpc/grpc-js'
import { noop } from 'cockatiel'
import { Etcd3 } from 'etcd3'
import { EtcdChannel, isReady } from './etcd-channel.ts'

// What fails is told by us, in the log: gRPC would print lines of its own on standard error.
setLogVerbosity(logVerbosity.NONE)

/** etcd3's client over one connection to one endpoint. */
export class EtcdClient extends Etcd3 {
  readonly channel: EtcdChannel

  /**
   * @param tls null: in clear
   * @param deadlineMs milliseconds after which a call counts as unanswered, asked at each call
   */
  constructor(endpoint: string, tls: SecureContext | null, deadlineMs: (isConnected: boolean) => number) {
    const host = endpoint.replace(/\/+$/, '')
    const channel = new EtcdChannel(host, tls)
    super({
      hosts: [host],
      // gRPC takes a deadline as a date of the machine's clock.
      defaultCallOptions: ({ service }) =>
        service === 'Watch'
          ? { interceptors: [requireLeader] }
          : { deadline: Date.now() + deadlineMs(isReady(channel)) },
      // etcd3 would retry transactions, and a transaction retried after it went in says it failed.
      faultHandling: { global: noop, host: () => noop },
      grpcOptions: { channelOverride: channel },
    })
    this.channel = channel
  }

  override close(): void {
    this.channel.destroy()
    super.close()
  }
}

/** Without it, a watch on a member that lost its quorum stays silent instead of ending. */
const requireLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      metadata.set('hasleader', 'true')
      next(metadata, listener)
    },
  })
