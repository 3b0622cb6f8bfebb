import { Channel, type ChannelCredentials, connectivityState } from '@grpc/grpc-js'

/** Every number is measured, sheet etcd.md §2. */
const options = {
  // etcd ends connections that ping more often than every 5 s.
  'grpc.keepalive_time_ms': 5500,
  'grpc.keepalive_timeout_ms': 2000,
  'grpc.keepalive_permit_without_calls': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1000,
  'grpc.max_receive_message_length': 64 * 1024 * 1024,
  // Shared, a connection that hangs while it opens would be handed to the next client too.
  'grpc.use_local_subchannel_pool': 1,
}

/** One connection to one endpoint, for everything: etcd3 by itself opens one for reads, one for leases and one for watches. */
export function openChannel(endpoint: string, credentials: ChannelCredentials): Channel {
  return new Channel(endpoint.replace(/^https?:\/\//, ''), mortal(credentials), options)
}

/** Tells when the peer has taken the connection and said hello, which a frozen process does not. Never, when it is closed before. */
export function whenReady(channel: Channel, ready: () => void): void {
  const state = channel.getConnectivityState(false)
  if (state === connectivityState.READY) ready()
  else if (state !== connectivityState.SHUTDOWN)
    channel.watchConnectivityState(state, Number.POSITIVE_INFINITY, (error) => {
      if (!error) whenReady(channel, ready)
    })
}

/**
 * A channel that could not connect tries once more even if it is closed meanwhile: twice the connections while etcd is
 * away, and when it is back one that nobody owns. With these credentials nothing connects after the close.
 */
function mortal(credentials: ChannelCredentials): ChannelCredentials {
  const create = credentials._createSecureConnector.bind(credentials)
  credentials._createSecureConnector = (...args) => {
    const connector = create(...args)
    let isDestroyed = false
    return {
      connect: (socket) => connector.connect(socket),
      getCallCredentials: () => connector.getCallCredentials(),
      async waitForReady() {
        if (isDestroyed) throw new Error('the channel is closed')
        await connector.waitForReady()
      },
      destroy() {
        isDestroyed = true
        connector.destroy()
      },
    }
  }
  return credentials
}
