import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import type { ConfigAnswer } from '../../lib/api/config.ts'
import { fakeAdmin, llamero, refusal } from '../support/cli.ts'

const stored = 'queue:\n  max_wait: 30s\n'
const config: ConfigAnswer = {
  effective: {},
  text: stored,
  modified: '812',
  ok: true,
  errors: [],
  warnings: [],
  unknown_keys: [],
}

let folder: string
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'llamero-test-'))
})
beforeEach(() => rm(join(folder, 'log'), { force: true }))
after(() => rm(folder, { recursive: true }))

/** An editor that keeps what it was shown and applies one sed expression each time it is opened. */
async function anEditor(...expressions: string[]): Promise<string> {
  const script = join(folder, 'editor')
  const cases = expressions.map((expression, n) => `${n}) sed -i '${expression}' "$1" ;;`).join('\n')
  await writeFile(
    script,
    `{ stat -c 'mode %a file %n' "$1"; cat "$1"; echo ====; } >> ${folder}/log
     case $(($(grep -c '^====' ${folder}/log) - 1)) in
     ${cases}
     esac`,
  )
  return `sh ${script}`
}

/** What the editor was shown, once per time it was opened. */
const shown = async () => (await readFile(join(folder, 'log'), 'utf8')).split('====\n').slice(0, -1)
const fileOf = (text = '') => /^mode 600 file (.*)$/m.exec(text)?.[1] ?? ''

test('the saved text replaces the version that was read, without the added lines, and the file is removed', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /config': { body: config },
    'PUT /config': { body: {} },
  })
  const editor = await anEditor('s/30s/60s/')
  const { code, out, err } = await llamero('config edit', { url, editor })
  assert.deepEqual([code, err], [0, 'config: written\n'])
  assert.match(out, /- {2}max_wait: 30s\n\+ {2}max_wait: 60s\n/)
  assert.deepEqual(received[1]?.body, { text: stored.replace('30s', '60s') })
  assert.equal(received[1]?.headers['if-match'], '"812"')
  const [first] = await shown()
  assert.match(first ?? '', /^mode 600 file .*\.yaml\n(#~ .*\n)+queue:\n/)
  assert.ok(!existsSync(fileOf(first)))
})

test('an unchanged or emptied text is not written', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'GET /config': { body: config } })
  for (const expression of ['', 'd']) {
    const { code, err } = await llamero('config edit', { url, editor: await anEditor(expression) })
    assert.deepEqual([code, err], [0, 'nothing was changed\n'])
    await rm(join(folder, 'log'), { force: true })
  }
  assert.ok(received.every(({ method }) => method === 'GET'))
})

test('a missing config is created, unless another writer creates it first', async (t) => {
  const none = { ...config, text: null, modified: null }
  const { url, received } = await fakeAdmin(t, { 'GET /config': { body: none }, 'PUT /config': { body: {} } })
  const { code } = await llamero('config edit', { url, editor: await anEditor('$a queue: {max_length: 5}') })
  assert.equal(code, 0)
  assert.deepEqual(received[1]?.body, { text: 'queue: {max_length: 5}\n' })
  assert.equal(received[1]?.headers['if-none-match'], '*')
})

test('an invalid text is opened again with its faults on top, at the lines the user sees', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'GET /config': { body: config },
    'PUT /config': { body: {} },
  })
  const editor = await anEditor('s/max_wait/max_wiat/', 's/max_wiat: 30s/max_wait: 45s/')
  const { code } = await llamero('config edit', { url, editor })
  assert.equal(code, 0)
  const lines = (await shown())[1]?.split('\n').slice(1) ?? []
  const at = Number(
    /^#~ NOT WRITTEN: line (\d+): queue\.max_wiat: is not a known field \(did you mean "max_wait"\?\)$/.exec(
      lines[0] ?? '',
    )?.[1],
  )
  assert.equal(lines[at - 1], '  max_wiat: 30s')
  assert.deepEqual(received[1]?.body, { text: stored.replace('30s', '45s') })
})

test('an invalid text saved again unchanged ends with exit code 6, and is kept', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /config': { body: config } })
  const { code, err } = await llamero('config edit', { url, editor: await anEditor('s/30s/soon/') })
  const file = fileOf((await shown())[0])
  t.after(() => rm(join(file, '..'), { recursive: true }))
  assert.equal(code, 6)
  assert.ok(err.startsWith(`${file}:2: queue.max_wait: must be a duration`), err)
  assert.equal(await readFile(file, 'utf8'), stored.replace('30s', 'soon'))
})

test('on a conflict both changes are shown and the text is kept', async (t) => {
  let reads = 0
  const theirs = { ...config, text: stored.replace('30s', '99s'), modified: '900' }
  const { url } = await fakeAdmin(t, {
    'GET /config': (response) => response.end(JSON.stringify(reads++ === 0 ? config : theirs)),
    'PUT /config': refusal(409, 'conflict', 'somebody else changed it meanwhile'),
  })
  const { code, out, err } = await llamero('config edit', { url, editor: await anEditor('s/30s/60s/') })
  const file = fileOf((await shown())[0])
  t.after(() => rm(join(file, '..'), { recursive: true }))
  assert.equal(code, 5)
  assert.match(out, /--- config \(base\)\n\+\+\+ config \(yours\)\n[\s\S]*\+ {2}max_wait: 60s\n/)
  assert.match(out, /--- config \(base\)\n\+\+\+ config \(theirs\)\n[\s\S]*\+ {2}max_wait: 99s\n/)
  assert.ok(err.includes(`yours is kept in ${file}\n  hint: llamero config diff ${file}`), err)
  assert.equal(await readFile(file, 'utf8'), stored.replace('30s', '60s'))
})

test('a write that fails for another reason keeps the text as well', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /config': { body: config },
    'PUT /config': refusal(503, 'store_unavailable', 'the store cannot be reached'),
  })
  const { code, err } = await llamero('config edit', { url, editor: await anEditor('s/30s/60s/') })
  const file = fileOf((await shown())[0])
  t.after(() => rm(join(file, '..'), { recursive: true }))
  assert.equal(code, 7)
  assert.ok(err.includes(`yours is kept in ${file}`), err)
})

test('an editor that fails changes nothing', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'GET /config': { body: config } })
  const { code, err } = await llamero('config edit', { url, editor: 'sh -c "exit 3"' })
  assert.equal(code, 1)
  assert.match(err, /ended with exit code 3; nothing was written\n {2}hint: set VISUAL or EDITOR/)
  assert.equal(received.length, 1)
})
