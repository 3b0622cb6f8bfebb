import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

const unitPath = join(import.meta.dirname, '../../deploy/systemd/llamero.service')
const unit = readFileSync(unitPath, 'utf8')

/** Values by directive, in the order of the file. */
const directives = new Map<string, string[]>()
for (const [, name = '', value = ''] of unit.matchAll(/^(\w+)=(.*)$/gm)) {
  directives.set(name, [...(directives.get(name) ?? []), value])
}

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
  'PrivateDevices=yes',
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

test('the unit is well-formed: systemd itself has nothing to complain about', () => {
  if (!hasTool) {
    for (const line of unit.split('\n')) assert.match(line, /^($|#|\[(Unit|Service|Install)\]$|[A-Z]\w+=)/)
    return
  }
  const folder = mkdtempSync(join(tmpdir(), 'llamero-unit-'))
  try {
    // The executable is not installed where the tests run.
    const copy = join(folder, 'llamero.service')
    writeFileSync(copy, unit.replace(/^ExecStart=\S+/m, 'ExecStart=/bin/sh'))
    const { status, stdout, stderr } = analyze('verify', '--man=no', copy)
    // It exits with 0 even for directives it does not know: what it says is the verdict.
    assert.equal(`${stdout}${stderr}`, '')
    assert.equal(status, 0)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('the unit leaves an intruder little: its exposure is at most 2.0 of 10', () => {
  if (!hasTool) {
    for (const directive of hardening) assert.ok(unit.includes(`\n${directive}\n`), directive)
    return
  }
  const { status, stdout, stderr } = analyze(
    'security',
    '--offline=yes',
    '--no-pager',
    '--threshold=20',
    unitPath,
  )
  const exposure = /Overall exposure level for llamero\.service: ([\d.]+)/.exec(stdout)?.[1]
  assert.ok(exposure, stdout + stderr)
  assert.ok(Number(exposure) <= 2, `exposure ${exposure}`)
  assert.equal(status, 0)
})

test('stopping drains: SIGTERM to the main process, and more patience than the 300 s a drain may take', () => {
  assert.deepEqual(directives.get('KillSignal'), ['SIGTERM'])
  assert.deepEqual(directives.get('KillMode'), ['mixed'])
  assert.ok(Number(directives.get('TimeoutStopSec')) > 300)
})

test('V8 can start: memory may be made executable', () => {
  assert.equal(directives.get('MemoryDenyWriteExecute'), undefined)
})

test('nothing waits for a readiness or watchdog message that Node cannot send', () => {
  assert.deepEqual(directives.get('Type'), ['exec'])
  assert.equal(directives.get('WatchdogSec'), undefined)
})

test('it runs llamero with settings from an environment file that may be absent, and state of its own', () => {
  assert.deepEqual(directives.get('ExecStart'), ['/usr/bin/llamero serve'])
  assert.deepEqual(directives.get('EnvironmentFile'), ['-/etc/llamero/llamero.env'])
  assert.deepEqual(directives.get('StateDirectory'), ['llamero'])
  assert.deepEqual(directives.get('Restart'), ['always'])
})
