import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EtcdStore } from '../../lib/store/etcd.ts'
import { Informer } from '../../lib/store/informer.ts'
import { StoreError, type StoreFault } from '../../lib/store/store.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { until } from '../support/processes.ts'
import { Authority, type Identity, tlsOf } from './certificates.ts'

const clock = new RealClock()
const prefix = '/llamero/test/'
const here = 'IP:127.0.0.1,DNS:localhost'

describe('etcd that knows its users by the CN of their certificates', () => {
  let authority: Authority
  let stranger: Authority
  let llamero: Identity
  let etcd: Etcd
  const etcds: Etcd[] = []

  const started = async (server: Identity): Promise<Etcd> => {
    const member = await startEtcd({
      flags: {
        'cert-file': server.cert,
        'key-file': server.key,
        'trusted-ca-file': authority.cert,
        'client-cert-auth': 'true',
      },
    })
    etcds.push(member)
    return member
  }
  /** With a name: Node warns of TLS to an address. */
  const connect = async (member: Etcd, trusted: Authority, identity?: Identity) => {
    const tls = await tlsOf(trusted, identity)
    return new EtcdStore({
      endpoints: [member.endpoint.replace('127.0.0.1', 'localhost')],
      tls: () => tls,
      clock,
      log: silentLog,
    })
  }

  before(async () => {
    authority = await Authority.create()
    stranger = await Authority.create()
    etcd = await started(await authority.issue({ commonName: 'etcd', hosts: here }))
    llamero = await authority.issue({ commonName: 'llamero' })
    const root = await authority.issue({ commonName: 'root' })
    const asRoot = ['--cacert', authority.cert, '--cert', root.cert, '--key', root.key]
    for (const command of [
      ['user', 'add', 'root', '--no-password'],
      ['user', 'grant-role', 'root', 'root'],
      ['role', 'add', 'proxy'],
      ['role', 'grant-permission', 'proxy', '--prefix=true', 'readwrite', prefix],
      ['user', 'add', 'llamero', '--no-password'],
      ['user', 'grant-role', 'llamero', 'proxy'],
      ['auth', 'enable'],
    ])
      await etcdctl(etcd.endpoint, ...asRoot, ...command)
  })
  after(async () => {
    for (const member of etcds) await member.stop()
    await authority.delete()
    await stranger.delete()
  })

  it('serves calls, leases and watches of a user whose role has the prefix, and again after a restart', async () => {
    const store = await connect(etcd, authority, llamero)
    const informer = new Informer({ store, prefix, clock, dice: Math.random, log: silentLog, changed() {} })
    informer.start()
    const { id } = await store.grant(10_000)
    const put = (value: string) =>
      store.commit({ when: [], apply: [{ type: 'put', key: `${prefix}a`, value, lease: id }] })
    const isSeen = (value: string) => () => informer.entries.get(`${prefix}a`)?.value === value
    await put('before')
    await until(isSeen('before'), 'the first value', 3000)
    await etcd.restart()
    await until(() => put('after').then(() => true), 'a write after the restart', 5000)
    await until(isSeen('after'), 'the value after the restart', 3000)
    assert.ok((await store.renew(id)) > 0)
    await informer.stop()
    await store.close()
  })

  /** The one line that is logged, and for whom to do what. */
  const fails = async (store: EtcdStore, key: string, fault: StoreFault, message: RegExp) => {
    await assert.rejects(store.get(key), (error) => {
      assert.ok(error instanceof StoreError)
      assert.equal(error.fault, fault)
      assert.match(error.message, message)
      assert.doesNotMatch(error.message, /\n/)
      return true
    })
    await store.close()
  }
  const own = `${prefix}a`

  it('of an authority we do not trust: says which file to set', async () => {
    const store = await connect(etcd, stranger, llamero)
    await fails(store, own, 'unavailable', /not signed by the authority we trust: set LLAMERO_ETCD_CA/)
  })

  it('with a certificate for another host: says to use an endpoint that it names', async () => {
    const misnamed = await started(await authority.issue({ commonName: 'etcd', hosts: 'DNS:elsewhere' }))
    const store = await connect(misnamed, authority, llamero)
    await fails(store, own, 'unavailable', /for another host: use an endpoint that it names/)
  })

  it('with an expired certificate: says to issue a new one', async () => {
    const expired = await started(await authority.issue({ commonName: 'etcd', hosts: here, days: -1 }))
    const store = await connect(expired, authority, llamero)
    await fails(store, own, 'unavailable', /etcd's certificate has expired: issue a new one/)
  })

  it('for a client without a certificate, with an expired one or one of another authority: says what it must be', async () => {
    const old = await authority.issue({ commonName: 'llamero', days: -1 })
    const foreign = await stranger.issue({ commonName: 'llamero' })
    for (const identity of [undefined, old, foreign]) {
      const store = await connect(etcd, authority, identity)
      await fails(store, own, 'unavailable', /does not accept our certificate: set LLAMERO_ETCD_CERT and/)
    }
  })

  it('for a key outside of the prefix, and for a user it does not know: says which permission to grant', async () => {
    const unknown = await authority.issue({ commonName: 'nobody' })
    const permission = /may not do this: grant it a role with readwrite on the prefix/
    await fails(await connect(etcd, authority, llamero), '/elsewhere/a', 'denied', permission)
    await fails(await connect(etcd, authority, unknown), own, 'denied', permission)
  })
})
