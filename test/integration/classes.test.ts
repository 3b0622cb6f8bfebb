import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { apiKeySchema, hashToken } from '../../lib/fleet/api-key.ts'
import { routeSchema } from '../../lib/fleet/config.ts'
import { eventually, rawAnswer } from '../support/wire.ts'
import { startWireGateway } from '../support/wire-gateway.ts'

const keys = new Map(
  ['batch', 'interactive'].map((name) => {
    const key = apiKeySchema.parse({ hash: hashToken(`llm_${name}`), class: name })
    return [name, key] as const
  }),
)
const routes = new Map([
  ['slow', routeSchema.parse({ match: { model: 'slow*' }, model: 'm', class: 'batch' })],
])

test('of two requests for one slot the more urgent is answered first, by its key or its route, and log and metrics tell the class', async () => {
  const working: Socket[] = []
  const serve = (socket: Socket) => void working.push(socket)
  await using wire = await startWireGateway({ slots: 1, serve, keys, routes })
  const { gateway } = wire
  const answered: string[] = []
  const asks = [
    ['first', '', 'm'],
    ['batch by key', 'llm_batch', 'm'],
    ['batch by route', 'llm_interactive', 'slow'],
    ['default', '', 'm'],
    ['interactive', 'llm_interactive', 'm'],
  ] as const
  const done = []
  for (const [at, [name, token, model]] of asks.entries()) {
    const headers = { ...(token && { authorization: `Bearer ${token}` }), 'x-request-id': `number-${at}` }
    const body = JSON.stringify({ model, stream: false, messages: [] })
    const answer = fetch(`${gateway.url}/api/chat`, { method: 'POST', headers, body })
    done.push(answer.then(({ status }) => answered.push(`${name}: ${status}`)))
    if (at === 0) await eventually(() => working.length === 1, 'the slot is taken')
    else await eventually(() => gateway.scheduler.summary().queued === at, `${name} waits`)
  }
  for (let n = 0; n < asks.length; n++) {
    await eventually(() => working.length === 1, 'the node works')
    working.shift()?.write(rawAnswer('{"done":true}'))
    await eventually(() => answered.length === n + 1, 'the answer is there')
  }
  await Promise.all(done)
  assert.deepEqual(
    answered.map((answer) => answer.replace(': 200', '')),
    ['first', 'interactive', 'default', 'batch by key', 'batch by route'],
  )
  const classes = gateway.lines.filter(({ message }) => message === 'request').map(({ fields }) => fields)
  assert.deepEqual(
    classes.map((fields) => fields['class']),
    ['default', 'interactive', 'default', 'batch', 'batch'],
  )
  const text = await gateway.metrics.registry.metrics()
  assert.match(text, /^llamero_queue_wait_seconds_count\{class="batch",outcome="granted"\} 2$/m)
})
