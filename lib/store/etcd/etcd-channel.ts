import { isIP, type Socket } from 'node:net'
import { connect as connectTls, type SecureContext, type TLSSocket } from 'node:tls'
import {
  Channel,
  type ChannelCredentials,
  connectivityState,
  credentials,
  InterceptingCall,
  type Interceptor,
  logVerbosity,
  setLogVerbosity,
} from '@grpc/grpc-js'

// llamero's log tells what fails: gRPC would print lines of its own on standard error.
setLogVerbosity(logVerbosity.NONE)

const options = {
  // etcd ends connections that ping more often than every 5 s (its `--grpc-keepalive-min-time`).
  'grpc.keepalive_time_ms': 5500,
  'grpc.keepalive_timeout_ms': 2000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
  // Shared, a connection that hangs while it opens would be handed to the next client too.
  'grpc.use_local_subchannel_pool': 1,
  // gRPC would take http_proxy, https_proxy and grpc_proxy of the environment, and TXT records of DNS, for etcd as well.
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
}

/** Shared by a channel and its connectors. */
interface Life {
  isOver: boolean
}

/** One connection to one endpoint, for everything: etcd3 by itself opens one for reads, one for leases and one for watches. */
export class EtcdChannel extends Channel {
  readonly #life: Life

  /** @param tls null: in clear */
  constructor(endpoint: string, tls: SecureContext | null) {
    const target = endpoint.replace(/^https?:\/\//, '')
    const life: Life = { isOver: false }
    const secure = tls ? secured(tls, hostOf(target)) : credentials.createInsecure()
    super(target, mortal(secure, life), options)
    this.#life = life
  }

  /** Not for etcd3, which closes the connection, and the watches on it, after some refusals (`isRecoverableError`). */
  override close(): void {}

  /** Ends the connection and everything on it. */
  destroy(): void {
    this.#life.isOver = true
    super.close()
  }
}

/** Without this header, a watch on a member that lost its quorum stays silent instead of ending. */
export const requireLeader: Interceptor = (options, nextCall) =>
  new InterceptingCall(nextCall(options), {
    start(metadata, listener, next) {
      metadata.set('hasleader', 'true')
      next(metadata, listener)
    },
  })

/** Whether the peer has accepted the connection and finished the handshake. */
export function isReady(channel: Channel): boolean {
  return channel.getConnectivityState(false) === connectivityState.READY
}

/** Calls `ready` when the peer has accepted the connection and finished the handshake, which a frozen process does not. */
export function whenReady(channel: Channel, ready: () => void): void {
  const state = channel.getConnectivityState(false)
  if (state === connectivityState.READY) ready()
  else if (state !== connectivityState.SHUTDOWN)
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, (error) => {
      if (!error) whenReady(channel, ready)
    })
}

function hostOf(target: string): string {
  return target.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
}

/** TLS as in gRPC, except for the server name: an IP address must not be sent as one (RFC 6066 section 3, Node's DEP0123). */
function secured(secureContext: SecureContext, host: string): ChannelCredentials {
  const secure = credentials.createFromSecureContext(secureContext)
  const create = secure._createSecureConnector.bind(secure)
  secure._createSecureConnector = (...args) => {
    const connector = create(...args)
    return {
      connect: async (socket) => ({ socket: await handshake(socket, secureContext, host), secure: true }),
      getCallCredentials: () => connector.getCallCredentials(),
      waitForReady: () => connector.waitForReady(),
      destroy: () => connector.destroy(),
    }
  }
  return secure
}

/** Rejects when the peer's certificate is not signed by an authority of the context, or names another host. */
function handshake(socket: Socket, secureContext: SecureContext, host: string): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>()
  const servername = isIP(host) === 0 ? host : ''
  const tls = connectTls({ socket, secureContext, host, servername, ALPNProtocols: ['h2'] })
  tls.once('secureConnect', () => resolve(tls))
  tls.on('error', reject)
  return promise
}

/**
 * A channel that could not connect tries once more even if it was closed meanwhile: that doubles the connections while etcd
 * is down, and leaves one without an owner when etcd is back. These credentials refuse to connect after the close.
 */
function mortal(secure: ChannelCredentials, life: Life): ChannelCredentials {
  const create = secure._createSecureConnector.bind(secure)
  secure._createSecureConnector = (...args) => {
    const connector = create(...args)
    return {
      connect: (socket) => connector.connect(socket),
      getCallCredentials: () => connector.getCallCredentials(),
      async waitForReady() {
        if (life.isOver) throw new Error('the channel is closed')
        await connector.waitForReady()
      },
      destroy: () => connector.destroy(),
    }
  }
  return secure
}
