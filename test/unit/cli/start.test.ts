import assert from 'node:assert/strict'
import { fork, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { llamero } from '../../support/cli.ts'
import { executable } from '../../support/processes.ts'

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
  for (const line of ['--help', 'node list', 'status', 'key list', 'config get', 'serve --help'])
    test(`loads no part of an instance and no checks of documents: ${line}`, () => {
      const loaded = loadedBy(line)
      assert.ok(loaded.has('cli'))
      const heavy = ['app.ts', 'gateway', 'cluster', 'store', 'scheduler', 'winston', 'undici', 'koa', 'zod']
      assert.deepEqual(
        heavy.filter((each) => loaded.has(each)),
        [],
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
