import assert from 'node:assert/strict'
import { test } from 'node:test'
import { textDiff } from '../../../lib/cli/terminal/text-diff.ts'

const from = { name: 'old', text: 'a: 1\nb: 2\n' }

test('a difference is written as diff -u writes it, and none as nothing', () => {
  const to = { name: 'new', text: 'a: 1\nb: 3\n' }
  assert.equal(textDiff(from, to, false), '--- old\n+++ new\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n')
  assert.equal(textDiff(from, { ...from, name: 'new' }, false), '')
})

test('colour repeats what the signs say', () => {
  const to = { name: 'new', text: 'a: 1\n' }
  assert.ok(textDiff(from, to, true).includes('\u001b[31m-b: 2\u001b[39m\n'))
})

test('control characters of a text do not reach the terminal', () => {
  const to = { name: 'new', text: 'a: \u001b[2J\n' }
  assert.ok(!textDiff(from, to, false).includes('\u001b'))
})
