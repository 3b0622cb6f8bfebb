import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { EtcdStore } from '../../lib/store/etcd/etcd-store.ts'
import { Informer } from '../../lib/store/informer.ts'
import { StoreError, type StoreFault } from '../../lib/store/store.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { FaultProxy } from '../support/fault-proxy.ts'
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

  const own = `${prefix}a`
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
  const connect = async (member: Etcd, trusted: Authority, identity?: Identity) => {
    const tls = await tlsOf(trusted, identity)
    return new EtcdStore({ endpoints: [member.endpoint], tls: () => tls, clock, log: silentLog })
  }
  const warned: string[] = []
  process.on('warning', ({ message }) => warned.push(message))

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
    assert.deepEqual(warned, [], 'Node warned of nothing, DEP0123 (TLS to an IP address) above all')
  })

  it('serves calls, leases and watches of a user whose role has the prefix, and again after a restart', async () => {
    const store = await connect(etcd, authority, llamero)
    const informer = new Informer({ store, prefix, clock, random: Math.random, log: silentLog, changed() {} })
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

  it('is found by its name as well as by its address (311)', async (t) => {
    const tls = await tlsOf(authority, llamero)
    const endpoints = [etcd.endpoint.replace('127.0.0.1', 'localhost')]
    const store = new EtcdStore({ endpoints, tls: () => tls, clock, log: silentLog })
    t.after(() => store.close())
    await store.get(own)
  })

  it('is asked with the certificate and key read before while the files do not fit together, with an alarm (311)', async (t) => {
    const good = await tlsOf(authority, llamero)
    const other = await tlsOf(authority, await authority.issue({ commonName: 'llamero' }))
    let files: typeof good = good
    const metrics = new Metrics()
    const lines: Record<string, unknown>[] = []
    const tell = (message: string, fields: object = {}) => void lines.push({ message, ...fields })
    const log = { ...silentLog, warn: tell, info: tell }
    const road = new FaultProxy(etcd.endpoint)
    const store = new EtcdStore({ endpoints: [await road.open()], tls: () => files, clock, log, metrics })
    t.after(async () => {
      await store.close()
      await road.close()
    })
    /** Over a connection of its own. */
    const ask = async () => {
      road.drop()
      await until(() => store.get(own).then(() => true), 'an answer over a new connection', 5000)
    }
    const isStale = async () => (await metrics.storeCertificateStale.get()).values[0]?.value
    await ask()
    // What LoadCredential= of one of the two leaves behind, an authority in the middle of its copy, and a file that is gone.
    const broken: Partial<typeof good>[] = [
      { cert: other.cert ?? Buffer.of() },
      { key: other.key ?? Buffer.of() },
      { ca: Buffer.of() },
      { cert: Buffer.from('no PEM') },
    ]
    for (const change of broken) {
      files = { ...good, ...change }
      await ask()
      assert.equal(await isStale(), 1)
    }
    const alarms = lines.filter(({ message }) =>
      /do not fit together; those read before stay/.test(`${message}`),
    )
    assert.equal(alarms.length, 1, 'one line in a minute')
    assert.match(String(alarms[0]?.['remedy']), /LoadCredential\), restart the unit/)
    assert.match(String(alarms[0]?.['validTo']), /GMT/)
    files = other
    await ask()
    assert.equal(await isStale(), 0)
    assert.ok(lines.some(({ message }) => /fit together again/.test(`${message}`)))
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

  it('of an untrusted authority: says which file to set', async () => {
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
