import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'

const tool = 'systemd-analyze'
const analyze = (...words: string[]) => spawnSync(tool, words, { encoding: 'utf8' })
const hasTool = analyze('--version').status === 0

/** Exposure counts in `systemd-analyze security`, lower is better; these are what keeps it low. */
const hardening = [
  'NoNewPrivileges=yes',
  'CapabilityBoundingSet=',
  'ProtectSystem=strict',
  'ProtectHome=yes',
  'PrivateTmp=yes',
  'DevicePolicy=closed',
  'PrivateUsers=yes',
  'ProtectProc=invisible',
  'ProtectKernelTunables=yes',
  'ProtectKernelModules=yes',
  'ProtectControlGroups=yes',
  'RestrictNamespaces=yes',
  'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX',
  'SystemCallFilter=@system-service',
  'SystemCallArchitectures=native',
]

/** A unit of ours: its text, and values by directive in the order of the file. */
function read(name: string) {
  const path = join(import.meta.dirname, '../../deploy/systemd', name)
  const unit = readFileSync(path, 'utf8')
  const directives = new Map<string, string[]>()
  for (const [, directive = '', value = ''] of unit.matchAll(/^(\w+)=(.*)$/gm))
    directives.set(directive, [...(directives.get(directive) ?? []), value])
  return { path, unit, directives }
}

for (const name of ['llamero.service', 'llamero-agent.service']) {
  suite(name, () => {
    const { path, unit, directives } = read(name)

    test("is well-formed by systemd's own check", () => {
      if (!hasTool) {
        for (const line of unit.split('\n'))
          assert.match(line, /^($|#|\[(Unit|Service|Install)\]$|[A-Z]\w+=)/)
        return
      }
      const folder = mkdtempSync(join(tmpdir(), 'llamero-unit-'))
      try {
        // The executable is not installed where the tests run.
        const copy = join(folder, name)
        writeFileSync(copy, unit.replace(/^ExecStart=\S+/m, 'ExecStart=/bin/sh'))
        const { status, stdout, stderr } = analyze('verify', '--man=no', copy)
        // It exits with 0 even for directives it does not know: what it says is the verdict.
        assert.equal(`${stdout}${stderr}`, '')
        assert.equal(status, 0)
      } finally {
        rmSync(folder, { recursive: true })
      }
    })

    test('leaves an intruder little: its exposure is at most 2.0 of 10', () => {
      if (!hasTool) {
        for (const directive of hardening) assert.ok(unit.includes(`\n${directive}\n`), directive)
        return
      }
      const { status, stdout, stderr } = analyze(
        'security',
        '--offline=yes',
        '--no-pager',
        '--threshold=20',
        path,
      )
      const exposure = /Overall exposure level for llamero(?:-agent)?\.service: ([\d.]+)/.exec(stdout)?.[1]
      assert.ok(exposure, stdout + stderr)
      assert.ok(Number(exposure) <= 2, `exposure ${exposure}`)
      assert.equal(status, 0)
    })

    test('is stopped by SIGTERM to the main process', () => {
      assert.deepEqual(directives.get('KillSignal'), ['SIGTERM'])
      assert.deepEqual(directives.get('KillMode'), ['mixed'])
    })

    test('lets V8 start: memory may be made executable', () => {
      assert.equal(directives.get('MemoryDenyWriteExecute'), undefined)
    })

    test('lets the journal read the level of each line, and copies certificate and key for etcd together (311)', () => {
      assert.deepEqual(directives.get('SyslogLevelPrefix'), ['yes'])
      const copied = [...unit.matchAll(/LoadCredential=(\S+?):/g)].map(([, credential]) => credential)
      assert.deepEqual(copied, ['etcd-cert', 'etcd-key'])
      assert.match(unit, /systemctl restart \S+/)
    })

    test('waits for no readiness or watchdog message, which Node cannot send, and starts again after a crash', () => {
      assert.deepEqual(directives.get('Type'), ['exec'])
      assert.equal(directives.get('WatchdogSec'), undefined)
      assert.deepEqual(directives.get('Restart'), ['always'])
    })
  })
}

test('an instance drains: more patience than the 300 s that may take', () => {
  const { directives } = read('llamero.service')
  assert.ok(Number(directives.get('TimeoutStopSec')) > 300)
})

test('an instance has settings from an environment file that may be absent, state of its own and no device', () => {
  const { directives } = read('llamero.service')
  assert.deepEqual(directives.get('ExecStart'), ['/usr/bin/llamero serve'])
  assert.deepEqual(directives.get('EnvironmentFile'), ['-/etc/llamero/llamero.env'])
  assert.deepEqual(directives.get('StateDirectory'), ['llamero'])
  assert.deepEqual(directives.get('PrivateDevices'), ['yes'])
})

test('an agent has its options from an environment file that may be absent, no state, and sees GPUs but no other device', () => {
  const { directives } = read('llamero-agent.service')
  assert.deepEqual(directives.get('ExecStart'), ['/usr/bin/llamero agent $AGENT_OPTIONS'])
  assert.deepEqual(directives.get('EnvironmentFile'), ['-/etc/llamero/agent.env'])
  assert.equal(directives.get('StateDirectory'), undefined)
  assert.deepEqual(directives.get('DeviceAllow'), ['char-nvidia* rw'])
})
