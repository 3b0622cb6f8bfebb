import assert from 'node:assert/strict'
import { cp, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { askOnce } from '../support/load.ts'
import { findOlderNpm, strangersEnvironment } from '../support/older-npm.ts'
import { freePort, until } from '../support/processes.ts'
import { Shell } from '../support/shell.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

suite('with the npm 9 and the Node 18 of Debian 12, in a copy without git,', () => {
  let shell: Shell
  let tree: string
  let listen: string
  before(async () => {
    listen = `127.0.0.1:${await freePort()}`
    shell = await Shell.start({
      ...strangersEnvironment(),
      LLAMERO_LISTEN: listen,
      LLAMERO_ADMIN: `127.0.0.1:${await freePort()}`,
      // Common on servers: npm then leaves out the dev dependencies, of which llamero's own Node is one.
      NODE_ENV: 'production',
      // What the tree that is copied has installed is in npm's cache.
      npm_config_prefer_offline: 'true',
    })
    const path = (process.env['PATH'] ?? '').split(':').filter((each) => !each.includes('node_modules'))
    shell.set('PATH', [await findOlderNpm(), ...path].join(':'))
    tree = join(shell.folder, 'llamero')
    const isLeftOut = (path: string) => ['.git', 'node_modules', 'dist'].includes(relative(root, path))
    await cp(root, tree, { recursive: true, filter: (from) => !isLeftOut(from) })
  })
  after(() => shell[Symbol.asyncDispose]())

  test('npm start installs, and answers a request', async () => {
    assert.equal(await shell.run('npm --version; node --version'), '9.2.0\nv18.20.4\n')
    shell.spawn('npm start > start.log 2>&1', tree)
    const log = () => readFile(join(tree, 'start.log'), 'utf8')
    await until(async () => /Ctrl-C stops it|error/.test(await log()), 'npm start has started', 240_000)
    assert.equal(await askOnce(`http://${listen}`, 'llama3.2:3b'), null, await log())
  })

  test('the native parts of the tools are installed, which are for a newer Node', async () => {
    for (const tool of ['biome', 'tsc', 'knip'])
      assert.match(await shell.run(`npm exec --offline -- ${tool} --version`, tree), /\d+\.\d+\.\d+/)
  })

  test('npm test runs a file', async () => {
    const out = await shell.run('npm test -- test/unit/shared/coalesce.test.ts', tree)
    assert.match(out, /^ℹ pass [1-9]/m)
    assert.match(out, /^ℹ fail 0$/m)
  })
})
