import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { SettingsError } from '../../../lib/settings/definitions.ts'
import { exposedFiles, loadSettings } from '../../../lib/settings/settings.ts'
import { unknownVariables } from '../../../lib/settings/unknown-variables.ts'
import { executable } from '../../support/processes.ts'

test('the grace and the drain limit of a stop are durations with a unit, of a day at most', async () => {
  const { patience } = await loadSettings({ grace: '0s', drain: '2m' })
  assert.deepEqual(patience, { graceMs: 0, drainMs: 120_000 })
  for (const drain of ['30', 'soon', '25h'])
    await assert.rejects(
      loadSettings({ drain }),
      (error) => error instanceof SettingsError && /^--drain: /.test(error.message),
    )
})

suite('unknown environment variables', () => {
  /** What Kubernetes sets in every container beside a Service with this name and port. */
  const serviceLinks = (service: string, port: number) => {
    const address = `tcp://10.96.0.17:${port}`
    return {
      [`${service}_SERVICE_HOST`]: '10.96.0.17',
      [`${service}_SERVICE_PORT`]: `${port}`,
      [`${service}_SERVICE_PORT_HTTP`]: `${port}`,
      [`${service}_PORT`]: address,
      [`${service}_PORT_${port}_TCP`]: address,
      [`${service}_PORT_${port}_TCP_PROTO`]: 'tcp',
      [`${service}_PORT_${port}_TCP_PORT`]: `${port}`,
      [`${service}_PORT_${port}_TCP_ADDR`]: '10.96.0.17',
    }
  }

  for (const service of ['LLAMERO', 'LLAMERO_ADMIN', 'LLAMERO_ETCD', 'LLAMERO_NAME', 'LLAMERO_LISTEN'])
    test(`the links of a Service named ${service} are returned for a warning and end no start (334)`, () => {
      const links = serviceLinks(service, 11434)
      assert.deepEqual(unknownVariables({ ...links, PATH: '/bin' }), Object.keys(links))
    })

  test("Docker's link to a container named llamero is no name of this instance (334)", () => {
    const links = { ...serviceLinks('LLAMERO', 11434), LLAMERO_NAME: '/web/llamero' }
    assert.deepEqual(unknownVariables(links), Object.keys(links))
    const env = { ...process.env, ...links }
    const { stdout } = spawnSync(process.execPath, ['bin/llamero.js', 'env', '-o', 'json'], { env })
    assert.match(String(stdout), /"name"/)
    assert.doesNotMatch(String(stdout), /web/)
  })

  test('a misspelt name with a value that fits the setting ends the start (334)', () => {
    for (const [name, value, meant] of [
      ['LLAMERO_LISTN', '0.0.0.0:11434', 'LLAMERO_LISTEN'],
      ['LLAMERO_ETCDS', 'http://a:2379,http://b:2379', 'LLAMERO_ETCD'],
      ['LLAMERO_LOGLEVEL', 'debug', 'LLAMERO_LOG_LEVEL'],
      ['LLAMERO_CLUSTERS', 'blue', 'LLAMERO_CLUSTER'],
      ['LLAMERO_ETCD_CRT', '/etc/ssl/us.pem', 'LLAMERO_ETCD_CERT'],
    ] as const)
      assert.throws(
        () => unknownVariables({ [name]: value }),
        (error) => error instanceof SettingsError && error.message.includes(`did you mean ${meant}?`),
        name,
      )
  })

  test('a name near to a setting with a value that does not fit is returned for a warning (334)', () => {
    const variables = { LLAMERO_LISTN: 'tcp://10.0.0.1:80', LLAMERO_DRAINS: '17', LLAMERO_LOGLEVEL: '3' }
    assert.deepEqual(unknownVariables(variables), Object.keys(variables))
  })
})

const etcdTls = { 'etcd-ca': '/dev/null', 'etcd-cert': '/dev/null', 'etcd-key': '/dev/null' }

async function refuses(flags: Record<string, string>, reason: RegExp): Promise<void> {
  await assert.rejects(loadSettings(flags), (error) => {
    assert.ok(error instanceof SettingsError)
    assert.match(error.message, reason)
    return true
  })
}

test('files for TLS beside an etcd that is asked in clear, or beside none, are refused at start (336)', async () => {
  for (const [flag, value] of Object.entries(etcdTls))
    for (const etcd of ['http://10.0.0.1:2379', '10.0.0.1:2379', '']) {
      const reason = new RegExp(
        `^--${flag}: "/dev/null" is for TLS, and .*write https:// endpoints in LLAMERO_ETCD`,
      )
      await refuses({ [flag]: value, etcd }, reason)
    }
})

test('endpoints of etcd with a password are refused, without showing it (336)', async () => {
  for (const etcd of ['http://root:secret@a:2379', 'https://a:2379,root:secret@b:2379']) {
    await refuses({ etcd }, /must not contain a user and password/)
    await refuses({ etcd }, /^(?!.*secret)/)
  }
})

test('endpoints of etcd with and without TLS are not mixed (336)', async () => {
  await refuses(
    { ...etcdTls, etcd: 'https://a:2379,http://b:2379,c:2379' },
    /^--etcd: .* mixes https:\/\/ with http:\/\/b:2379, c:2379: write https:\/\/ before every endpoint/,
  )
})

test('a certificate for etcd without its key, and a key without its certificate, are refused at start (336)', async () => {
  const etcd = 'https://a:2379'
  await refuses({ etcd, 'etcd-cert': '/dev/null' }, /^--etcd-cert: .* needs LLAMERO_ETCD_KEY beside it/)
  await refuses({ etcd, 'etcd-key': '/dev/null' }, /^--etcd-key: .* needs LLAMERO_ETCD_CERT beside it/)
  assert.ok((await loadSettings({ etcd, ...etcdTls })).etcdTls, 'all three are fine')
})

test('the reason why a service does not start is an error to the journal, and plain text anywhere else (311)', () => {
  const folder = mkdtempSync(join(tmpdir(), 'llamero-journal-'))
  const journal = openSync(join(folder, 'journal'), 'w')
  const { dev, ino } = fstatSync(journal)
  try {
    const said = ['serve', 'agent'].map((command) => {
      const args = [
        executable,
        command,
        '--log-level',
        'loud',
        ...(command === 'agent' ? ['--announce', 'http://a:1'] : []),
      ]
      const env = { ...process.env, JOURNAL_STREAM: `${dev}:${ino}` }
      const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' })
      assert.equal(status, 2)
      assert.match(stderr, /^error: /, 'a pipe is not the journal')
      spawnSync(process.execPath, args, { env, stdio: ['ignore', 'ignore', journal] })
      return stderr
    })
    assert.equal(readFileSync(join(folder, 'journal'), 'utf8'), said.map((line) => `<3>${line}`).join(''))
  } finally {
    closeSync(journal)
    rmSync(folder, { recursive: true })
  }
})

test('a settings file that holds a secret and that every user can read is refused, with what to type (350)', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'llamero-settings-'))
  try {
    const config = join(folder, 'llamero.yaml')
    writeFileSync(config, 'admin_token: abc\n')
    chmodSync(config, 0o644)
    await assert.rejects(loadSettings({ config }), {
      name: 'SettingsError',
      message: new RegExp(`holds admin_token, and every user .*chmod 600 ${config}`),
    })
    chmodSync(config, 0o640)
    await loadSettings({ config })
    writeFileSync(config, 'cluster: blue\n')
    chmodSync(config, 0o644)
    assert.equal((await loadSettings({ config })).cluster, 'blue', 'a file without secrets may be read')
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a key file that every user can read is told, with what to type (350)', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'llamero-settings-'))
  try {
    const key = join(folder, 'key.pem')
    writeFileSync(key, 'x')
    chmodSync(key, 0o640)
    assert.deepEqual(await exposedFiles({ 'etcd-key': key }), [])
    chmodSync(key, 0o644)
    assert.match((await exposedFiles({ 'etcd-key': key }))[0] ?? '', /chmod o-rwx .*key.pem/)
    assert.deepEqual(await exposedFiles({}), [])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
