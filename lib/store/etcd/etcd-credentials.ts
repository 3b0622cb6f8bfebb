import { X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContext } from 'node:tls'
import type { Clock } from '../../shared/clock.ts'
import { messageOf } from '../../shared/errors.ts'
import type { Log } from '../../shared/log.ts'
import type { Metrics } from '../../shared/metrics.ts'
import { StoreError } from '../store.ts'

/** PEM contents. A client certificate, when etcd asks for one, needs both `cert` and `key`. */
export interface EtcdTls {
  readonly ca: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

interface Options {
  /** Reads the files; may throw. Absent: no TLS. */
  readonly tls?: () => EtcdTls
  readonly clock: Clock
  readonly log: Log
  readonly metrics?: Metrics
}

/** Milliseconds between two reminders while the operator has not acted. */
const repeatMs = 60_000

interface Usable {
  readonly context: SecureContext
  readonly readAt: Date
  /** The last day of our certificate; null when there is none. */
  readonly validTo: string | null
}

/**
 * Authority, certificate and key for connections to etcd, read from their files for every new connection: they are rotated
 * by replacing the files. While the files do not fit together, the last ones that did stay in force: one file may be a copy
 * that systemd made at start (`LoadCredential=`), or be written at this moment.
 */
export class EtcdCredentials {
  readonly #options: Options
  #usable: Usable | null = null
  #toldAt: number | null = null

  constructor(options: Options) {
    this.#options = options
  }

  /** For a new connection; null: no TLS. @throws StoreError when no usable files were ever read */
  current(): SecureContext | null {
    const { tls, clock, metrics, log } = this.#options
    if (!tls) return null
    try {
      this.#usable = { ...usable(tls()), readAt: clock.date() }
    } catch (cause) {
      return this.#former(cause)
    }
    metrics?.storeCertificateStale.set(0)
    if (this.#toldAt !== null) log.info('the files for TLS to etcd fit together again: they are in force')
    this.#toldAt = null
    return this.#usable.context
  }

  #former(cause: unknown): SecureContext {
    const { clock, log, metrics } = this.#options
    const message = `the certificates for etcd cannot be used: ${messageOf(cause)}`
    if (!this.#usable) throw new StoreError('unavailable', message, { cause })
    metrics?.storeCertificateStale.set(1)
    const now = clock.now()
    if (this.#toldAt === null || now - this.#toldAt >= repeatMs) {
      this.#toldAt = now
      const { readAt, validTo } = this.#usable
      log.warn('the files for TLS to etcd do not fit together; those read before stay in force', {
        error: messageOf(cause),
        readAt: readAt.toISOString(),
        validTo,
        remedy:
          'replace LLAMERO_ETCD_CERT and LLAMERO_ETCD_KEY together; where systemd copies one of them at start (LoadCredential), restart the unit',
      })
    }
    return this.#usable.context
  }
}

/** @throws when a file is no PEM, or the key is not that of the certificate. */
function usable({ ca, cert, key }: EtcdTls): Omit<Usable, 'readAt'> {
  new X509Certificate(ca) // createSecureContext ignores an authority that it cannot read
  const context = createSecureContext({ ca, ...(cert && { cert }), ...(key && { key }) })
  return { context, validTo: cert ? new X509Certificate(cert).validTo : null }
}
