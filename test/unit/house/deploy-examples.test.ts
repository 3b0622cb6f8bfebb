import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { loadSettings } from '../../../lib/settings/settings.ts'
import { Metrics } from '../../../lib/shared/metrics.ts'
import { formatAddress } from '../../../lib/shared/net/address.ts'

const folder = join(import.meta.dirname, '../../../deploy/examples')
const fileOf = (name: string) => join(folder, name)
const read = (name: string) => readFileSync(fileOf(name), 'utf8')

const hosts = ['10.0.0.21', '10.0.0.22', '10.0.0.23']
const [listen, admin] = [11434, 11400]
const settings = () => loadSettings({ config: fileOf('llamero.yaml') })

/** Runs a checker of the file's own program; where that is not installed, the other assertions must do. */
function verify(tool: string, ...words: string[]): void {
  const { error, status, stdout, stderr } = spawnSync(tool, words, { encoding: 'utf8' })
  if (!error) assert.equal(status, 0, `${stdout}${stderr}`)
}

test('the settings of three VMs are valid', async () => {
  const parsed = await settings()
  assert.deepEqual(
    [parsed.name, formatAddress(parsed.listen), formatAddress(parsed.admin), parsed.etcd.length],
    ['vm-a', `0.0.0.0:${listen}`, `${hosts[0]}:${admin}`, 3],
  )
})

test('HAProxy asks the admin port of each instance for /readyz, and leaves answers their time', async () => {
  const text = read('haproxy.cfg')
  const servers = [...text.matchAll(/^ +server \S+ (\S+)$/gm)].map(([, address]) => address)
  assert.deepEqual(
    servers,
    hosts.map((host) => `${host}:${listen}`),
  )
  const [, seconds] = /check port 11400 inter (\d+)s fall (\d+)/.exec(text) ?? []
  assert.ok(
    Number(seconds) * 2 < (await settings()).patience.graceMs / 1000,
    'checks see a drain in its grace',
  )
  for (const line of ['uri /readyz', 'timeout client 1h', 'timeout server 1h'])
    assert.ok(text.includes(line), line)
  verify('haproxy', '-c', '-f', fileOf('haproxy.cfg'))
})

test('nginx sends to each instance, unbuffered, and leaves answers their time', () => {
  const text = read('nginx.conf')
  const servers = [...text.matchAll(/^ +server (\S+) max_fails/gm)].map(([, address]) => address)
  assert.deepEqual(
    servers,
    hosts.map((host) => `${host}:${listen}`),
  )
  for (const line of ['proxy_buffering off;', 'proxy_request_buffering off;', 'proxy_read_timeout 1h;'])
    assert.ok(text.includes(line), line)
  const scratch = mkdtempSync(join(tmpdir(), 'llamero-nginx-'))
  try {
    const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
      (each) => `${each}_temp_path ${each};`,
    )
    const main = join(scratch, 'nginx.conf')
    writeFileSync(
      main,
      `pid pid; error_log stderr; events {} http { access_log off; ${paths.join(' ')} include ${fileOf('nginx.conf')}; }`,
    )
    verify('nginx', '-t', '-q', '-p', scratch, '-c', main)
  } finally {
    rmSync(scratch, { recursive: true })
  }
})

test('Prometheus scrapes the admin port of each instance, and its rules name metrics that exist', async () => {
  const config = parse(read('prometheus.yml'))
  assert.deepEqual(
    config.scrape_configs[0].static_configs[0].targets,
    hosts.map((host) => `${host}:${admin}`),
  )
  assert.deepEqual(config.rule_files, ['alerts.yml'])
  const labels = new Map<string, readonly string[]>(
    new Metrics().registry.getMetricsAsArray().map((metric) => {
      const { labelNames = [] } = metric as { readonly labelNames?: readonly string[] }
      return [metric.name, labelNames]
    }),
  )
  for (const { alert, expr, labels: own, annotations } of parse(read('alerts.yml')).groups[0].rules) {
    for (const [, name = ''] of expr.matchAll(/\b(llamero_\w+)/g))
      assert.ok(labels.has(name), `${alert}: no metric ${name}`)
    const [, by] = /by \((\w+)\)/.exec(expr) ?? []
    const known = [...labels].filter(([name]) => expr.includes(name)).flatMap(([, names]) => names)
    assert.ok(by === undefined || by === 'instance' || known.includes(by), `${alert}: no label ${by}`)
    assert.match(own.severity, /^(warning|critical)$/, alert)
    assert.match(annotations.summary, /\w+/, alert)
  }
  verify('promtool', 'check', 'config', fileOf('prometheus.yml'))
})
