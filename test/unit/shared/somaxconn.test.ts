import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { checkSomaxconn } from '../../../lib/shared/net/somaxconn.ts'
import { recordingLog } from '../../support/log.ts'

async function linesFor(text: string | null) {
  const directory = await mkdtemp(join(tmpdir(), 'llamero-somaxconn-'))
  const { log, lines } = recordingLog()
  try {
    const path = join(directory, 'somaxconn')
    if (text !== null) await writeFile(path, text)
    await checkSomaxconn(log, path)
    return lines
  } finally {
    await rm(directory, { recursive: true })
  }
}

suite('the check of somaxconn', () => {
  test('warns when somaxconn is below the wanted backlog, with the command that raises it (383)', async () => {
    const [line, ...rest] = await linesFor('128\n')
    assert.equal(rest.length, 0)
    assert.equal(line?.level, 'warn')
    assert.deepEqual(line?.fields, {
      somaxconn: 128,
      wanted: 4096,
      hint: 'sysctl -w net.core.somaxconn=4096',
    })
  })

  for (const text of ['4096\n', '65535\n', 'unreadable', null])
    test(`says nothing for ${JSON.stringify(text)} (383)`, async () => {
      assert.deepEqual(await linesFor(text), [])
    })
})
