import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { missingPackages } from '../../../tools/install.js'
import { executable } from '../../support/processes.ts'

const machine = { os: 'linux', cpu: 'x64', libc: 'glibc' }
const locked = {
  '': {},
  'node_modules/a': { integrity: 'sha512-a' },
  'node_modules/native-x64': {
    integrity: 'sha512-x',
    optional: true,
    os: ['linux'],
    cpu: ['x64'],
    libc: ['glibc'],
  },
  'node_modules/native-musl': {
    integrity: 'sha512-m',
    optional: true,
    os: ['linux'],
    cpu: ['x64'],
    libc: ['musl'],
  },
  'node_modules/native-arm64': { integrity: 'sha512-r', optional: true, os: ['linux'], cpu: ['arm64'] },
  'node_modules/not-windows': { integrity: 'sha512-w', optional: true, os: ['!win32'] },
  'node_modules/part-of-another-native': { integrity: 'sha512-p', optional: true },
}

suite('before each script, what is missing is installed:', () => {
  test('everything that this machine needs, where nothing is installed', () => {
    assert.deepEqual(missingPackages(locked, {}, machine), [
      'node_modules/a',
      'node_modules/native-x64',
      'node_modules/not-windows',
    ])
  })

  test('the native parts that npm left out, since they are for a newer Node than the one it ran under', () => {
    const { 'node_modules/a': a, 'node_modules/not-windows': other } = locked
    const installed = { 'node_modules/a': a, 'node_modules/not-windows': other }
    assert.deepEqual(missingPackages(locked, installed, machine), ['node_modules/native-x64'])
  })

  test('what the lockfile has in another version', () => {
    const installed = { ...locked, 'node_modules/a': { integrity: 'sha512-older' } }
    assert.deepEqual(missingPackages(locked, installed, machine), ['node_modules/a'])
  })

  test('nothing, when everything is installed', () => {
    assert.deepEqual(missingPackages(locked, locked, machine), [])
    assert.deepEqual(missingPackages(locked, locked, { os: 'win32', cpu: 'x64', libc: 'glibc' }), [])
  })
})

test('each script installs first what it needs, also the first that is ever run in a checkout', () => {
  const { scripts } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  const isHook = (name: string) => /^(pre|post)/.test(name) && name.replace(/^(pre|post)/, '') in scripts
  const commands = Object.keys(scripts).filter((name) => !isHook(name))
  const installs = (name: string) =>
    scripts[`pre${name}`] === 'node tools/install.js' || scripts[name].startsWith('node tools/test.js')
  assert.deepEqual(
    commands.filter((name) => !installs(name)),
    [],
  )
})

test('an older Node is told in one line which one is needed, the one that package.json names', () => {
  const { engines } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
  const older = `data:text/javascript,${encodeURIComponent(
    "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '24.20.1' } })",
  )}`
  const args = ['--import', older, executable, 'status']
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  assert.deepEqual([status, stdout], [1, ''])
  const needed = engines.node.replace('>=', '')
  assert.match(
    stderr,
    new RegExp(`^error: llamero needs Node ${needed} or newer, and this is Node 24\\.20\\.1: [^\\n]+\\n$`),
  )
})
