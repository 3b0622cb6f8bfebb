import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const freshKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

/** A certificate and its key, as PEM files. */
export interface Identity {
  readonly cert: string
  readonly key: string
}

interface Request {
  /** The user, for etcd. */
  readonly commonName: string
  /** For servers: as OpenSSL spells it, `IP:127.0.0.1,DNS:localhost`. */
  readonly hosts?: string
  /** From now; in the past when negative. */
  readonly days?: number
}

/** A certificate authority in a temporary folder, made with openssl. */
export class Authority {
  readonly #dir: string
  readonly cert: string
  readonly #key: string
  #issued = 0

  private constructor(dir: string) {
    this.#dir = dir
    this.cert = join(dir, 'ca.pem')
    this.#key = join(dir, 'ca.key')
  }

  static async create(): Promise<Authority> {
    const authority = new Authority(await mkdtemp(join(tmpdir(), 'llamero-authority-')))
    const out = ['-keyout', authority.#key, '-out', authority.cert]
    await run('openssl', ['req', '-x509', ...freshKey, ...out, '-subj', '/CN=test authority', '-days', '2'])
    return authority
  }

  async issue({ commonName, hosts = 'DNS:client', days = 1 }: Request): Promise<Identity> {
    const path = join(this.#dir, String(++this.#issued))
    const identity = { cert: `${path}.pem`, key: `${path}.key` }
    const request = `${path}.csr`
    await run('openssl', [
      'req',
      ...freshKey,
      '-keyout',
      identity.key,
      '-out',
      request,
      '-subj',
      `/CN=${commonName}`,
    ])
    await writeFile(`${path}.ext`, `subjectAltName=${hosts}`)
    const signer = ['-CA', this.cert, '-CAkey', this.#key, '-CAcreateserial', '-days', String(days)]
    const files = ['-in', request, '-extfile', `${path}.ext`, '-out', identity.cert]
    await run('openssl', ['x509', '-req', ...signer, ...files])
    return identity
  }

  async delete(): Promise<void> {
    await rm(this.#dir, { recursive: true })
  }
}

/** As the store takes them. */
export async function tlsOf(authority: Authority, identity?: Identity) {
  const ca = await readFile(authority.cert)
  return identity ? { ca, cert: await readFile(identity.cert), key: await readFile(identity.key) } : { ca }
}
