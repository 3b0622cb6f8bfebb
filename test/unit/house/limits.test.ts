import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const limits = fileURLToPath(new URL('../../support/limits.ts', import.meta.url))

suite('the runner ends a test file, by its name,', () => {
  const folder = mkdtempSync(join(tmpdir(), 'llamero-limits-'))
  after(() => rmSync(folder, { recursive: true }))

  /** Runs a file of its own under the runner; resolves to what was printed. */
  const run = (name: string, text: string, limitsMs: Record<string, string> = {}) => {
    const file = join(folder, `${name}.test.mjs`)
    writeFileSync(file, `import { after, before, suite, test } from 'node:test'\n${text}`)
    const { NODE_TEST_CONTEXT: _, ...env } = process.env
    const args = ['--test', '--test-timeout=60000', `--import=${limits}`, file]
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      cwd: folder,
      env: { ...env, TEST_ENDING_MS: '200', ...limitsMs },
      encoding: 'utf8',
      timeout: 30_000,
    })
    return { status, said: stdout + stderr }
  }

  test('after a failed set-up that left a server open', () => {
    const text = `import { createServer } from 'node:net'
      suite('s', () => { before(() => { createServer().listen(0); throw new Error('no luck') }); test('t', () => {}) })`
    const { status, said } = run('broken', text)
    assert.equal(status, 1)
    assert.match(said, /broken\.test\.mjs is over, but leaves something open .*: TCPServerWrap/)
    assert.match(said, /no luck/)
  })

  test('after passed tests that left a process', () => {
    const text = `import { spawn } from 'node:child_process'
      test('t', (t) => { const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)']); process.on('exit', () => child.kill()) })`
    const { status, said } = run('leaving', text)
    assert.equal(status, 1)
    assert.match(said, /leaving\.test\.mjs is over, but leaves something open .*ProcessWrap/)
  })

  test('after its time limit', () => {
    const text = "test('t', () => new Promise((resolve) => setTimeout(resolve, 60000)))"
    const { status, said } = run('slow', text, { TEST_FILE_MS: '300' })
    assert.equal(status, 1)
    assert.match(said, /slow\.test\.mjs takes too long \(300 ms\)/)
  })

  test('but not a file that ends by itself', () => {
    assert.equal(run('fine', "test('t', () => {})").status, 0)
  })
})
