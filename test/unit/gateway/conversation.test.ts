import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { prefixesOf, promptTokens, sessionOf } from '../../../lib/gateway/admission/conversation.ts'
import { scan } from '../../../lib/gateway/body/json-fields.ts'

interface Message {
  readonly role: string
  readonly content: string
}

const say = (content: string, role = 'user'): Message => ({ role, content })
const first = [say('be brief', 'system'), say('what is a lease?')]
const continued = [...first, say('a promise with an end', 'assistant'), say('and a fence?')]

function prefixes(body: object | string, origin: { tenant?: string; model?: string; session?: string } = {}) {
  const bytes = Buffer.from(typeof body === 'string' ? body : JSON.stringify(body))
  const { tenant = 'home', model = 'm', session = null } = origin
  return prefixesOf(bytes, scan(bytes).prompt, { tenant, model, session })
}

const tokens = (body: object) => {
  const bytes = Buffer.from(JSON.stringify(body))
  return promptTokens(scan(bytes).prompt)
}

/** The number of prefixes that `a` and `b` share. */
function shared(a: ReturnType<typeof prefixes>, b: ReturnType<typeof prefixes>): number {
  const hashes = new Set(b.map(({ hash }) => hash))
  return a.filter(({ hash }) => hashes.has(hash)).length
}

suite('the prefixes of a conversation', () => {
  test('are one per message, each longer than the one before, and grow with it', () => {
    const [before, after] = [prefixes({ messages: first }), prefixes({ model: 'm', messages: continued })]
    assert.deepEqual(after.slice(0, 2), before)
    assert.equal(after.length, 4)
    assert.equal(new Set(after.map(({ hash }) => hash)).size, 4)
    for (const [at, { tokens }] of after.entries()) assert(tokens > (after[at - 1]?.tokens ?? 0))
    assert(after.every(({ hash }) => Number.isSafeInteger(hash) && hash >= 0))
  })

  test('do not depend on the white space between messages, nor on where the list stands', () => {
    const [a, b] = first.map((message) => JSON.stringify(message))
    assert.deepEqual(
      prefixes(`{"stream":true,"messages":[ ${a} ,\n\t${b}\n], "x":[1]}`),
      prefixes({ messages: first }),
    )
  })

  test('break where an earlier message was edited, and stay broken', () => {
    const edited = [first[0], say('what is a leash?'), ...continued.slice(2)]
    assert.equal(shared(prefixes({ messages: edited }), prefixes({ messages: continued })), 1)
  })

  test('differ between tenants and between models', () => {
    const ours = prefixes({ messages: continued })
    assert.equal(shared(prefixes({ messages: continued }, { tenant: 'next door' }), ours), 0)
    assert.equal(shared(prefixes({ messages: continued }, { model: 'other' }), ours), 0)
  })

  test('begin with the tools and the system prompt, at any place in the body', () => {
    const system = 'be brief'
    const tools = [{ name: 'look', input_schema: { type: 'object' } }]
    const [opening, ...rest] = [prefixes({ messages: first, system, tools }), prefixes({ messages: first })]
    assert.deepEqual(opening, prefixes({ tools, system, messages: first }))
    assert.equal(opening.length, 4)
    assert.equal(shared(opening, rest[0] ?? []), 0)
    assert.equal(shared(opening, prefixes({ tools, system, messages: [say('other')] })), 2)
  })

  test('of a long conversation are the last 64, and of a huge one few', () => {
    const long = Array.from({ length: 100 }, (_, n) => say(`message ${n}`))
    const told = prefixes({ messages: long })
    assert.equal(told.length, 64)
    assert.equal(shared(prefixes({ messages: [...long, say('more')] }), told), 63)
    assert.equal(prefixes({ messages: Array.from({ length: 50_000 }, () => 1) }).length, 64)
  })

  test('distinguish long messages by their length and their ends', () => {
    const long = (text: string) => prefixes({ messages: [say('a'.repeat(3000) + text)] })
    assert.equal(shared(long('b'), long('c')), 0)
    assert.equal(shared(long('b'), long('bb')), 0)
    assert.equal(shared(long('b'), long('b')), 1)
  })
})

suite('a named session', () => {
  const session = 'chat-1'

  test('is found again when its messages are written differently, and shares its opening with others', () => {
    const here = prefixes({ messages: continued }, { session })
    const rewritten = continued.map(({ role, content }) => ({ content, role }))
    const again = prefixes({ messages: [continued[0], ...rewritten.slice(1)] }, { session })
    assert.equal(shared(again, here), 4)
    assert.equal(shared(prefixes({ messages: continued }, { session: 'chat-2' }), here), 1)
  })

  test('finds a growing prompt, but no side request with another opening', () => {
    const prompt = (text: string) => ({ system: 'you go on', prompt: text })
    const here = prefixes(prompt('once'), { session })
    assert.equal(shared(prefixes(prompt('once upon a time'), { session }), here), 2)
    const chat = prefixes({ messages: continued }, { session })
    const title = [say('find a title', 'system'), say('for this')]
    assert.equal(shared(prefixes({ messages: title }, { session }), chat), 0)
  })

  test('is named by the header of llamero, else by that of Open WebUI', () => {
    assert.equal(sessionOf({ 'x-llamero-session': 'a', 'x-openwebui-chat-id': 'b' }), 'a')
    assert.equal(sessionOf({ 'x-openwebui-chat-id': 'b' }), 'b')
    assert.equal(sessionOf({ 'x-llamero-session': '' }), null)
  })
})

suite('the length of a prompt', () => {
  const text = 'word '.repeat(400)
  const cases: readonly [string, object][] = [
    ['messages', { messages: [say(text)] }],
    ['a prompt', { prompt: text }],
    ['several prompts', { prompt: [text.slice(0, 1000), text.slice(1000)] }],
    ['an input', { input: text }],
    ['inputs', { input: [say(text)] }],
    ['a system prompt and a message', { system: text.slice(0, 1500), messages: [say(text.slice(1500))] }],
    ['instructions', { instructions: text, input: 'go' }],
    ['tools', { tools: [{ name: 'look', description: text }], messages: [] }],
  ]
  for (const [name, body] of cases)
    test(`is a token per four bytes of ${name}`, () => {
      assert(Math.abs(tokens({ model: 'm', ...body, format: text }) - 500) < 30, `${tokens(body)}`)
    })

  test('counts an image as an image in any API, and no byte of it as text', () => {
    const image = Buffer.alloc(90_000, 'any bytes').toString('base64')
    const url = `data:image/png;base64,${image}`
    const bodies = [
      { messages: [{ role: 'user', content: 'what is it?', images: [image] }] },
      { prompt: 'what is it?', images: [image] },
      { messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url } }] }] },
      { input: [{ role: 'user', content: [{ type: 'input_image', image_url: url }] }] },
      { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'base64', data: image } }] }] },
    ]
    for (const body of bodies) {
      const counted = tokens(body)
      assert(counted >= 768 && counted < 850, `${counted}`)
    }
  })

  test('is 0 without a prompt', () => {
    assert.equal(tokens({ model: 'm', messages: [] }), 0)
  })
})
