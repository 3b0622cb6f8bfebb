import assert from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { llamero } from '../support/cli.ts'
import { executable } from '../support/processes.ts'

/** Prints the address of every module that is loaded. */
const tellModules = `data:text/javascript,${encodeURIComponent(`
  import { registerHooks } from 'node:module'
  registerHooks({ load(url, context, next) { process.stderr.write(url + '\\n'); return next(url, context) } })`)}`

/** The packages, and the folders and files of lib, that a command line loads. */
function loadedBy(line: string): Set<string> {
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', tellModules, executable, '--admin-url', 'http://127.0.0.1:1', ...line.split(' ')],
    { encoding: 'utf8' },
  )
  assert.ok(status === 0 || status === 7, stderr)
  const names = stderr.matchAll(
    /^file:.*?\/(?:node_modules\/(?<pack>(?:@[^/]+\/)?[^/]+)|lib\/(?<own>[^/\n]+))/gm,
  )
  return new Set([...names].map(({ groups }) => groups?.['pack'] ?? groups?.['own'] ?? ''))
}

suite('a command of the CLI', () => {
  const instance = ['app.ts', 'gateway', 'cluster', 'store', 'scheduler', 'winston', 'undici', 'koa']
  const documents = ['zod', 'yaml', 'diff']
  for (const [line, ofDocuments] of [
    ['--help', []],
    ['node list', []],
    ['status', []],
    ['key list', []],
    ['serve --help', []],
    // It prints YAML.
    ['config get', ['yaml', 'diff']],
  ] as const)
    test(`loads no part of an instance, and of the packages for documents only what it needs: ${line}`, () => {
      const loaded = loadedBy(line)
      assert.ok(loaded.has('cli'))
      assert.deepEqual(
        [...instance, ...documents].filter((each) => loaded.has(each)),
        ofDocuments,
      )
    })

  test('is found behind global options with any values', async () => {
    for (const line of ['--admin-url env version', '--no-color version', 'version --admin-url=env']) {
      const { code, out } = await llamero(line)
      assert.deepEqual([code, out], [0, 'llamero 1.2.3\n'], line)
    }
  })

  test('has its name in the help of all commands and a help of its own', async () => {
    const { out } = await llamero('--help')
    const names = [...(out.split('Commands:')[1] ?? '').matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name)
    assert.ok(names.length > 15, out)
    for (const name of names.filter((each) => each !== 'help')) {
      const help = await llamero(`${name} --help`)
      assert.match(help.out, new RegExp(`^Usage: llamero ${name}`))
      assert.match((await llamero(`help ${name}`)).out, new RegExp(`^Usage: llamero ${name}`))
    }
  })
})

suite('compiled modules are kept for the next command', () => {
  let cache: string
  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), 'llamero-cache-'))
  })
  afterEach(() => rmSync(cache, { recursive: true }))
  const folder = () => join(cache, 'llamero', 'compiled')

  /** The files in the folder after one command. */
  function keptAfterCommand(): string[] {
    const { NODE_COMPILE_CACHE: _, ...env } = process.env
    const options = { env: { ...env, XDG_CACHE_HOME: cache } }
    assert.equal(spawnSync(process.execPath, [executable, 'version'], options).status, 0)
    return readdirSync(folder(), { recursive: true, encoding: 'utf8' }).sort()
  }

  test('in a folder of the user', () => {
    const kept = keptAfterCommand()
    assert.ok(kept.length > 10, `${kept}`)
    assert.deepEqual(keptAfterCommand(), kept)
    assert.equal(statSync(folder()).mode & 0o077, 0)
  })

  test('but neither written to nor taken from a folder that other users may write to', () => {
    mkdirSync(folder(), { recursive: true })
    chmodSync(folder(), 0o777)
    assert.deepEqual(keptAfterCommand(), [])
  })
})

test('a process of llamero goes by its command line in ps', {
  skip: process.platform !== 'linux',
}, async () => {
  const args = ['simulate', 'node', 'n']
  const child = fork(executable, args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  try {
    await once(child, 'message')
    assert.match(readFileSync(`/proc/${child.pid}/cmdline`, 'utf8'), /^llamero simulate node n\b/)
  } finally {
    child.kill()
  }
})
