import assert from 'node:assert/strict'
import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { type Etcd, etcdctl, startEtcd } from '../support/etcd.ts'
import { askOnce, Load } from '../support/load.ts'
import { InstanceProcess, until } from '../support/processes.ts'
import { Authority, type Identity } from './certificates.ts'

const models = [aModel({ name: 'm:1b', loadMs: 50, promptTps: 10_000, decodeTps: 2000 })]
const root = '/llamero/default/'
/** Milliseconds without access: more than one period of every loop. */
const deniedMs = 2500

/** An instance that serves while its access to etcd changes. */
class Fixture {
  readonly etcd: Etcd
  readonly instance: InstanceProcess
  readonly #node: SimulatedNode
  readonly #asRoot: () => readonly string[]
  #puts = 0

  private constructor(
    etcd: Etcd,
    instance: InstanceProcess,
    node: SimulatedNode,
    asRoot: () => readonly string[],
  ) {
    this.etcd = etcd
    this.instance = instance
    this.#node = node
    this.#asRoot = asRoot
  }

  static async start(
    etcd: Etcd,
    settings: Record<string, string>,
    asRoot: () => readonly string[],
  ): Promise<Fixture> {
    const node = await SimulatedNode.start({ name: 'n', models })
    const instance = await InstanceProcess.start('a', settings)
    const fixture = new Fixture(etcd, instance, node, asRoot)
    await fixture.etcdctl('put', `${root}nodes/n`, `url: ${node.url}`)
    await until(async () => (await askOnce(instance.url, 'm:1b')) === null, 'it routes', 10_000)
    return fixture
  }

  async stop(): Promise<void> {
    await this.instance.stop()
    await this.#node.stop()
    await this.etcd.stop()
  }

  async etcdctl(...command: readonly string[]): Promise<void> {
    await etcdctl(this.etcd.endpoint, ...this.#asRoot(), ...command)
  }

  load(): Load {
    return new Load(() => [this.instance.url], 'm:1b', 1)
  }

  /** Returns the lines other than those of requests that `act` made it log. */
  async logged(act: () => Promise<void>): Promise<string[]> {
    const before = this.instance.log.length
    await act()
    const lines = this.instance.log.slice(before).trimEnd().split('\n')
    return lines.filter((line) => line !== '' && !line.includes('"message":"request"'))
  }

  /** Waits until it leads and a document put now is in force. */
  async works(): Promise<void> {
    const name = `works${++this.#puts}`
    await this.etcdctl('put', `${root}routes/${name}`, `{match: {model: "${name}*"}, model: "m:1b"}`)
    await until(async () => (await askOnce(this.instance.url, name)) === null, 'it follows etcd', 3000)
    await until(async () => (await fetch(`${this.instance.adminUrl}/leader`)).ok, 'it leads', 12_000)
  }
}

/** One line at least says what to do, and it is not buried under others. */
function assertTold(lines: readonly string[], remedy: RegExp): void {
  assert.ok(
    lines.some((line) => remedy.test(line)),
    lines.join('\n'),
  )
  assert.ok(lines.length <= 5, lines.join('\n'))
}

suite('an instance without credentials, when etcd begins to ask who it is', () => {
  let fixture: Fixture
  before(async () => {
    const etcd = await startEtcd()
    await etcdctl(etcd.endpoint, 'user', 'add', 'root:secret')
    await etcdctl(etcd.endpoint, 'user', 'grant-role', 'root', 'root')
    fixture = await Fixture.start(etcd, { LLAMERO_ETCD: etcd.endpoint }, () => [])
  })
  after(() => fixture.stop())

  test('serves on, says in few lines what to set, and follows again when it no longer asks', async () => {
    await fixture.works()
    await using load = fixture.load()
    const lines = await fixture.logged(async () => {
      await fixture.etcdctl('auth', 'enable')
      await sleep(deniedMs)
    })
    assertTold(
      lines,
      /etcd requires authentication.*set LLAMERO_ETCD_CERT and LLAMERO_ETCD_KEY to a certificate whose CN is a user/,
    )
    await etcdctl(fixture.etcd.endpoint, '--user', 'root:secret', 'auth', 'disable')
    await fixture.works()
    await load.stop()
    assert.deepEqual(load.failures, [])
  })
})

suite('an instance that etcd knows by its certificate', () => {
  let dir: string
  let fixture: Fixture
  let authority: Authority
  let next: Authority
  const path = (name: string) => join(dir, name)
  const asRoot = () => ['--cacert', path('ca'), '--cert', path('root'), '--key', path('root.key')]
  const place = async (name: string, { cert, key }: Identity) => {
    await copyFile(cert, path(name))
    await copyFile(key, path(`${name}.key`))
  }
  /** Every certificate anew, in the same files. */
  const rotate = async (by: Authority) => {
    await copyFile(by.cert, path('ca'))
    await place('etcd', await by.issue({ commonName: 'etcd', hosts: 'IP:127.0.0.1,DNS:localhost' }))
    await place('root', await by.issue({ commonName: 'root' }))
  }

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'llamero-access-'))
    ;[authority, next] = await Promise.all([Authority.create(), Authority.create()])
    await rotate(authority)
    await place('llamero', await authority.issue({ commonName: 'llamero' }))
    const etcd = await startEtcd({
      flags: {
        'cert-file': path('etcd'),
        'key-file': path('etcd.key'),
        'trusted-ca-file': path('ca'),
        'client-cert-auth': 'true',
      },
    })
    for (const command of [
      ['user', 'add', 'root', '--no-password'],
      ['user', 'grant-role', 'root', 'root'],
      ['role', 'add', 'proxy'],
      ['role', 'grant-permission', 'proxy', '--prefix=true', 'readwrite', root],
      ['user', 'add', 'llamero', '--no-password'],
      ['user', 'grant-role', 'llamero', 'proxy'],
      ['auth', 'enable'],
    ])
      await etcdctl(etcd.endpoint, ...asRoot(), ...command)
    const settings = {
      LLAMERO_ETCD: etcd.endpoint.replace('127.0.0.1', 'localhost'),
      LLAMERO_ETCD_CA: path('ca'),
      LLAMERO_ETCD_CERT: path('llamero'),
      LLAMERO_ETCD_KEY: path('llamero.key'),
    }
    fixture = await Fixture.start(etcd, settings, asRoot)
  })
  after(async () => {
    await fixture.stop()
    await authority.delete()
    await next.delete()
    await rm(dir, { recursive: true })
  })

  test('serves on without its permission, says in few lines what to grant, and follows again once it is granted', async () => {
    await fixture.works()
    await using load = fixture.load()
    const permission = ['proxy', '--prefix=true']
    const lines = await fixture.logged(async () => {
      await fixture.etcdctl('role', 'revoke-permission', ...permission, root)
      await sleep(deniedMs)
    })
    assertTold(lines, /grant it a role with readwrite on the prefix/)
    await fixture.etcdctl('role', 'grant-permission', ...permission, 'readwrite', root)
    await fixture.works()
    await load.stop()
    assert.deepEqual(load.failures, [])
  })

  test('takes new certificates and a new authority from their files, without a restart', async () => {
    await using load = fixture.load()
    await rotate(next)
    const lines = await fixture.logged(async () => {
      await fixture.etcd.restart()
      await sleep(2000)
    })
    assertTold(lines, /does not accept our certificate: set LLAMERO_ETCD_CERT/)
    await place('llamero', await next.issue({ commonName: 'llamero' }))
    await fixture.works()
    await load.stop()
    assert.deepEqual(load.failures, [])
  })
})
