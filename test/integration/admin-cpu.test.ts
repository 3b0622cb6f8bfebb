import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CpuReport, longestTurnMs } from '../support/cpu.ts'
import { heavyDocuments } from '../support/heavy-documents.ts'
import { startInstance } from '../support/instance.ts'

/** Heavy as bodies and as stored documents; the reader alone is measured with all kinds. */
const kinds = [
  'keys of a block map',
  'keys of a JSON object',
  'wrong JSON labels',
  'JSON keys with escapes',
  'wide JSON objects',
  'lines of a plain text',
  'long lines of a plain text',
  'what begins as a number',
]

test('no request to the admin API takes a turn of the event loop longer than 20 ms (343)', async (test) => {
  await using instance = await startInstance({ nodes: 0 })
  const { app, adminUrl, token } = instance
  const headers = {
    authorization: `Bearer ${token}`,
    'content-type': 'application/json',
    'if-none-match': '*',
  }
  const report = new CpuReport()
  const measure = async (name: string, work: () => Promise<unknown>) =>
    report.add(name, await longestTurnMs(work, { enough: 10, rounds: 4 }))
  const ask = (method: string, path: string, body: string) => async () => {
    const response = await fetch(`${adminUrl}/admin/v1/${path}`, { method, headers, body })
    assert([400, 422].includes(response.status), await response.text())
  }
  const put = (key: string, value: string) =>
    app.store.commit({ when: [], apply: [{ type: 'put', key, value }] })

  for (const size of [96, 240])
    for (const [name, text] of heavyDocuments(size * 1024)) {
      if (!kinds.includes(name)) continue
      const title = `${size} KiB of ${name}`
      const wrapped = JSON.stringify({ text })
      if (wrapped.length < 256 * 1024) await measure(`config of ${title}`, ask('PUT', 'config', wrapped))
      if (text.startsWith('{')) {
        await measure(`route of ${title}`, ask('PUT', 'routes/x', text))
        await measure(`changes of ${title}`, ask('PATCH', 'routes/x', text))
      }
      await put(app.keys.config, text)
      await put(app.keys.node('z'), text)
      await measure(`change of a config of ${title}`, ask('PATCH', 'config', '{"queue":{"max_length":5}}'))
      await measure(`change of a node of ${title}`, ask('PATCH', 'nodes/z', '{"weight":2}'))
    }
  for (const line of report.lines()) test.diagnostic(line)
  assert(report.longest <= 20, report.lines().join('\n'))
})
