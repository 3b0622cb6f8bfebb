import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fakeAdmin, llamero } from '../support/cli.ts'

/** A name or text as a hostile node or caller may write it. */
const nasty = '\u001b[2Jm\u009b31m\u202e\u2066'
const unsafe = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u

const model = {
  name: nasty,
  size: 1,
  digest: nasty,
  modified_at: '2026-01-01T00:00:00Z',
  nodes: [nasty],
  older_on: [],
  loaded_on: [nasty],
  parameter_size: nasty,
  quantization: nasty,
}
const node = {
  name: nasty,
  url: nasty,
  state: nasty,
  health: 'down',
  reason: nasty,
  since: null,
  weight: 1,
  slots: 1,
  labels: { [nasty]: nasty },
  source: 'agent',
  version: nasty,
  running: 0,
  running_by_instance: {},
  breaker: 'closed',
  loaded: [nasty],
  models: [nasty],
  vram_bytes: 0,
}
const answers = {
  'GET /models': { body: { models: [model] } },
  'GET /nodes': { body: { nodes: [node] } },
  'GET /nodes/n': { body: node },
  'GET /config': {
    body: { effective: { a: nasty, [nasty]: 1 }, text: `a: "x" # ${nasty}\n`, modified: '1' },
  },
  'GET /models/x': { status: 500, body: { error: { code: nasty, message: nasty } } },
}
const lines = [
  ...['model list', 'node list', 'node show n'].flatMap((command) =>
    ['table', 'wide', 'json', 'yaml'].map((output) => `${command} -o ${output}`),
  ),
  'config get',
  'config get -o json',
  'config get --stored',
  'model where x',
]

for (const line of lines)
  test(`nothing that a name or a text holds steers the terminal of "llamero ${line}" (351)`, async (t) => {
    const { url } = await fakeAdmin(t, answers)
    const { out, err } = await llamero(line, { url, tty: true })
    assert.ok(out !== '' || err !== '')
    assert.doesNotMatch(out, unsafe)
    assert.doesNotMatch(err, unsafe)
  })

test('a document goes into a file as it is stored (351)', async (t) => {
  const { url } = await fakeAdmin(t, answers)
  assert.equal((await llamero('config get --stored', { url })).out, `a: "x" # ${nasty}\n`)
})
