import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { aModel } from '../../lib/simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

const fast = { loadMs: 0, promptTps: 0, decodeTps: 0 }
const models = [
  aModel({ name: 'judge', ...fast, capabilities: ['completion', 'decision'] }),
  aModel({ name: 'chats', ...fast }),
]

let node: SimulatedNode
let older: SimulatedNode
before(async () => {
  node = await SimulatedNode.start({ name: 'n', models, version: '0.35.0' })
  older = await SimulatedNode.start({ name: 'o', models, version: '0.34.9' })
})
after(() => Promise.all([node.stop(), older.stop()]))

const urgent = { type: 'noul', instructions: 'Urgent?' }
const question = { model: 'judge', state: 'the site is down', questions: { urgent } }

async function decide(body: object, url = node.url) {
  const answer = await fetch(`${url}/v1/systemone`, { method: 'POST', body: JSON.stringify(body) })
  const text = await answer.text()
  return { status: answer.status, text, headers: answer.headers }
}

/** What Ollama 0.35 answers to requests that are wrong (ollama: decision/systemone.go). */
const wrong: readonly [body: object, status: number, error: RegExp][] = [
  [{ model: ' ' }, 400, /^model is required$/],
  [{ model: 'missing' }, 404, /^model 'missing' not found$/],
  [{ model: 'chats' }, 400, /chats:latest does not support decision$/],
  [{ questions: {} }, 400, /^questions must contain 1–64 fields$/],
  [{ state: '' }, 400, /^state must not be empty$/],
  [{ state: 7 }, 400, /^state: must be a string, object, or array$/],
  [{ questions: { q: { type: 'noul' } } }, 400, /^question "q": instructions must be a nonempty/],
  [
    { questions: { q: { ...urgent, type: 'x' } } },
    400,
    /^question "q": type must be choice, noul, or score$/,
  ],
  [
    { questions: { q: { ...urgent, type: 'score', criteria: ['one'] } } },
    400,
    /must contain 2–26 candidates$/,
  ],
  [{ questions: { q: { ...urgent, criteria: { maybe: 'x' } } } }, 400, /unknown noul criterion "maybe"$/],
  [{ images: ['aW1hZ2U='] }, 400, /^this decision model does not support images$/],
  [{ state: 'x'.repeat(64 * 1024) }, 413, /^http: request body too large$/],
]

suite('decisions of a simulated node', () => {
  test('answer each question by its type, equally on every node (374)', async () => {
    const questions = {
      urgent,
      team: { type: 'choice', instructions: 'Route it', criteria: { web: null, mail: 'post' } },
      mood: { type: 'score', instructions: { how: 'angry' }, criteria: ['calm', 'cross', 'furious'] },
    }
    const { status, text } = await decide({ ...question, questions })
    assert.equal(status, 200)
    const { model, answers, usage } = JSON.parse(text)
    assert.deepEqual([model, Object.keys(answers)], ['judge', ['urgent', 'team', 'mood']])
    assert(answers.urgent.noul > 0 && answers.urgent.noul < 1)
    assert.equal(answers.team.probabilities.web + answers.team.probabilities.mail, 1)
    assert(['web', 'mail'].includes(answers.team.choice))
    assert.deepEqual(answers.mood.legend, { 0: 'calm', 1: 'cross', 2: 'furious' })
    assert(usage.input_tokens > 0)
    assert.deepEqual(JSON.parse((await decide({ ...question, questions })).text).answers, answers)
  })

  for (const [body, expected, error] of wrong)
    test(`are refused with ${expected} where Ollama refuses ${JSON.stringify(body).slice(0, 60)} (374)`, async () => {
      const { status, text } = await decide({ ...question, ...body })
      assert.equal(status, expected)
      assert.match(JSON.parse(text).error, error)
    })

  test('are unknown to a version before 0.35 (374)', async () => {
    assert.deepEqual(await decide(question, older.url).then(({ status, text }) => [status, text]), [
      404,
      '404 page not found',
    ])
  })

  test('reach callers through llamero, and what is wrong with a request is tried once (374, 365)', async () => {
    const at = (each: SimulatedNode) => ({
      name: each.name,
      url: each.url,
      models: ['judge:latest'],
      loaded: ['judge:latest'],
    })
    await using gateway = await startGateway(aSnapshot({ nodes: [at(node)] }))
    const { status, text } = await decide({ ...question, keep_alive: -1 }, gateway.url)
    assert.deepEqual([status, JSON.parse(text).answers.urgent.type], [200, 'noul'])
    assert.equal(
      node.requests.some(({ body }) => JSON.stringify(body ?? '').includes('keep_alive":-1')),
      false,
    )
    for (const [body, expected] of wrong) {
      if ('model' in body) continue
      const answer = await decide({ ...question, ...body }, gateway.url)
      assert.deepEqual(
        [answer.status, answer.headers.get('x-llamero-attempts')],
        [expected, '1'],
        answer.text,
      )
    }
    assert.equal(gateway.upstreams.breakerState('n'), 'closed')
  })
})
