import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nodePathOf, nodeUrlFault, nodeUrlOf, sameServerKey } from '../../../lib/fleet/node-url.ts'

test('a node URL may have a path, which is kept without a final slash (321)', () => {
  for (const [text, kept, path] of [
    ['http://gw/ollama', 'http://gw/ollama', '/ollama'],
    ['https://gw:8443/ollama/', 'https://gw:8443/ollama', '/ollama'],
    ['https://GW/a/b//', 'https://gw/a/b', '/a/b'],
    ['http://gw:80/a/../ollama', 'http://gw/ollama', '/ollama'],
    ['http://10.0.0.1:11434', 'http://10.0.0.1:11434', ''],
    ['http://10.0.0.1:11434/', 'http://10.0.0.1:11434', ''],
  ] as const) {
    assert.equal(nodeUrlFault(text), null, text)
    assert.deepEqual([nodeUrlOf(text), nodePathOf(nodeUrlOf(text))], [kept, path])
  }
})

test("the paths of Ollama's own API belong to no URL of a node, nor do queries and fragments (321)", () => {
  for (const text of ['http://h/api', 'http://h/v1/', 'http://h/ollama/v1', 'http://h/ollama/api/chat'])
    assert.match(nodeUrlFault(text) ?? '', /must end before "\/(api|v1)"/, text)
  for (const text of ['http://h/?key=1', 'http://h/ollama?', 'http://h/#a'])
    assert.match(nodeUrlFault(text) ?? '', /no query and no fragment/, text)
  assert.equal(nodeUrlFault('http://h/apis'), null)
})

test('URLs that lead to one server are one, however they are written (321)', () => {
  for (const same of [
    [
      'http://localhost:11434',
      'http://LOCALHOST:11434/',
      'http://localhost.:11434',
      'http://127.0.0.1:11434',
      'http://127.0.0.2:11434',
      'http://2130706433:11434',
      'http://[::1]:11434',
      'http://[::ffff:127.0.0.1]:11434',
      'http://0.0.0.0:11434',
      'http://[::]:11434',
      'http://ollama.localhost:11434',
    ],
    ['http://gpu', 'http://gpu:80', 'http://GPU./'],
    ['https://gpu', 'https://gpu:443/', 'http://gpu:443'],
    ['http://10.0.0.1:11434', 'http://[::ffff:10.0.0.1]:11434', 'http://0xa.0.0.1:11434'],
    ['http://gw/ollama', 'http://gw/ollama/'],
  ])
    assert.equal(new Set(same.map(sameServerKey)).size, 1, same.join(' '))
  const different = [
    'http://gw',
    'http://gw/a',
    'http://gw/b',
    'http://gw:81',
    'https://gw',
    'http://127.0.0.1',
  ]
  assert.equal(new Set(different.map(sameServerKey)).size, different.length)
})
