import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { NodeStatus } from '../../lib/fleet/node.ts'
import { buildSnapshot } from '../../lib/fleet/snapshot.ts'
import { aDocuments } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'
import { rawAnswer, startRawNode } from '../support/wire.ts'

const refusal = (what: string) =>
  rawAnswer(JSON.stringify({ error: `"m" does not support ${what}` }), { status: '400 Bad Request' })

const breaks = 'breaks the connection'

/** Nodes a (asked first), b and c, with these responses and capability lists. */
async function fleet(
  lists: Readonly<Record<string, readonly string[]>>,
  refuses: Readonly<Record<string, string>>,
) {
  const started = await Promise.all(
    Object.keys(lists).map((name) =>
      startRawNode((socket, bytes) => {
        if (refuses[name] === breaks) socket.destroy()
        else if (bytes.endsWith('}'))
          socket.write(
            refuses[name] ? refusal(refuses[name]) : rawAnswer('{"message":{"content":"hi"},"done":true}'),
          )
      }),
    ),
  )
  const documents = aDocuments({
    nodes: Object.keys(lists).map((name, nth) => ({
      name,
      url: started[nth]?.url ?? '',
      loaded: ['m:latest'],
      weight: name === 'a' ? 100 : 1,
      slots: 8,
    })),
  })
  const statuses = [...documents.statuses].map(([name, status]): [string, NodeStatus] => [
    name,
    { ...status, models: status.models.map((model) => ({ ...model, capabilities: lists[name] ?? [] })) },
  ])
  const gateway = await startGateway(buildSnapshot({ ...documents, statuses: new Map(statuses) }))
  return {
    gateway,
    asked: () => started.map(({ received }) => received.join('').match(/POST/g)?.length ?? 0),
    chat: (fields = {}) =>
      fetch(`${gateway.url}/api/chat`, {
        method: 'POST',
        body: JSON.stringify({
          model: 'm',
          stream: false,
          messages: [{ role: 'user', content: 'hello' }],
          ...fields,
        }),
      }),
    warnings: () => gateway.lines.filter(({ message }) => /refuses what another/.test(message)),
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]()
      for (const node of started) await node[Symbol.asyncDispose]()
    },
  }
}

suite('a node that says its model cannot chat', () => {
  test('is not believed when another node can: the request fails over, with a warning about the node (371)', async () => {
    await using at = await fleet(
      { a: ['embedding'], b: ['completion'], c: ['insert'] },
      { a: 'chat', c: 'chat' },
    )
    for (let nth = 0; nth < 3; nth++) {
      const answer = await at.chat()
      assert.equal(answer.status, 200)
      assert.equal(answer.headers.get('x-llamero-node'), 'b')
      assert.equal(answer.headers.get('x-llamero-attempts'), nth === 0 ? '2' : '1')
    }
    assert.deepEqual(at.asked(), [1, 3, 0])
    assert.deepEqual(at.gateway.doubted, ['a'])
    assert.deepEqual(
      at.warnings().map(({ fields }) => [fields['node'], fields['model']]),
      [['a', 'm:latest']],
    )
    assert.equal(at.gateway.upstreams.breakerState('a'), 'closed')
  })

  test('is not believed when its own list and those of others say that it can (371)', async () => {
    await using at = await fleet({ a: ['completion'], b: ['completion'] }, { a: 'chat' })
    assert.equal((await at.chat()).status, 200)
    assert.deepEqual(at.asked(), [1, 1])
  })

  test('is believed when no other can, or nothing is listed (371)', async () => {
    for (const list of [['embedding'], []]) {
      await using at = await fleet({ a: list, b: list }, { a: 'chat', b: 'chat' })
      for (let nth = 0; nth < 20; nth++) {
        const answer = await at.chat()
        assert.equal(answer.status, 400)
        assert.equal(answer.headers.get('x-llamero-attempts'), '1')
      }
      assert.deepEqual(at.warnings(), [])
      assert.deepEqual(at.gateway.doubted, [])
    }
  })

  test('is not believed, and nodes that cannot by their own lists are skipped (371)', async () => {
    const lists = { a: ['embedding'], b: ['insert'], c: ['completion'] }
    await using at = await fleet(lists, { a: 'chat', b: 'chat' })
    assert.equal((await at.chat()).status, 200)
    assert.deepEqual(at.asked(), [1, 0, 1])
  })

  test('is believed when the nodes that can have failed before (371)', async () => {
    await using at = await fleet({ a: ['completion'], b: ['embedding'] }, { a: breaks, b: 'chat' })
    const answer = await at.chat()
    assert.equal(answer.status, 400)
    assert.deepEqual(at.asked(), [1, 1])
    assert.deepEqual([at.warnings(), at.gateway.doubted], [[], []])
  })

  test('fails over once: when the other refuses too, its refusal is the response (371)', async () => {
    const able = ['completion']
    await using at = await fleet({ a: able, b: able, c: able }, { a: 'chat', b: 'chat', c: 'chat' })
    const answer = await at.chat()
    assert.equal(answer.status, 400)
    assert.match(await answer.text(), /does not support chat/)
    assert.equal(
      at.asked().reduce((sum, each) => sum + each, 0),
      2,
    )
  })
})

test('a node that lacks a capability of the model still serves requests without it (371)', async () => {
  await using at = await fleet({ a: ['completion'], b: ['completion', 'thinking'] }, { a: 'thinking' })
  for (let nth = 0; nth < 2; nth++) {
    const answer = await at.chat({ think: true })
    assert.equal(answer.headers.get('x-llamero-node'), 'b')
    assert.equal(answer.headers.get('x-llamero-attempts'), '2')
  }
  assert.equal(at.warnings().length, 1, 'once a minute')
  assert.deepEqual(at.gateway.doubted, [])
})
