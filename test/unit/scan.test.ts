import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { ScanError } from '../../lib/gateway/json-walk.ts'
import { scan } from '../../lib/gateway/scan.ts'

const scanText = (text: string) => scan(Buffer.from(text))

suite('the body scanner', () => {
  test('finds model and stream at the top level only', () => {
    const body = '{"messages":[{"model":"inner","stream":true}], "model" : "llama3", "stream":false}'
    const { model, stream } = scanText(body)
    assert.equal(model?.value, 'llama3')
    assert.equal(body.slice(model?.start, model?.end), '"llama3"')
    assert.equal(stream, false)
  })

  test('decodes escapes in keys and values', () => {
    assert.equal(scanText('{"mod\\u0065l":"a\\u003ab"}').model?.value, 'a:b')
  })

  test('leaves stream open when it is absent or no boolean', () => {
    for (const body of ['{}', '{"stream":null}', '{"stream":"false"}', '{"stream":0}', '{"stream":[]}']) {
      assert.equal(scanText(body).stream, undefined, body)
    }
  })

  test('refuses a second or differently written model, which Ollama would read otherwise', () => {
    for (const body of [
      '{"model":"a","model":"b"}',
      '{"Model":"a"}',
      '{"model":"a","MODEL":"b"}',
      '{"ſtream":true}',
    ]) {
      assert.throws(() => scanText(body), ScanError, body)
    }
  })

  test('refuses a model that is no string', () => {
    for (const body of ['{"model":1}', '{"model":null}', '{"model":{}}', '{"model":["a"]}']) {
      assert.throws(() => scanText(body), ScanError, body)
    }
  })

  test('refuses nesting deeper than 64 at once', () => {
    assert.throws(() => scan(Buffer.alloc(20_000_000, '[')), ScanError)
    assert.throws(() => scanText(`{"a":${'['.repeat(20_000_000)}`), /deeper than 64/)
    assert.doesNotThrow(() => scanText(`{"a":${'['.repeat(63)}${']'.repeat(63)}}`))
  })

  test('refuses more fields than any request has, before their names cost anything', () => {
    const fields = (count: number) => `{${Array.from({ length: count }, (_, n) => `"m${n}":0`).join()}}`
    assert.doesNotThrow(() => scanText(fields(1000)))
    assert.throws(() => scanText(fields(1001)), /more than 1000 fields/)
  })

  test('finds the end of long strings, wherever they lie in memory', () => {
    const ends = ['"', '\\n"', '\u0001"']
    for (let offset = 0; offset < 4; offset++) {
      for (const [end, length] of ends.flatMap((end) =>
        [60, 61, 64, 70, 71, 72, 73].map((n) => [end, n] as const),
      )) {
        const text = `{"x":"${'é\u007f'.repeat(length)}${end}}`
        const bytes = Buffer.from('?'.repeat(offset) + text).subarray(offset)
        assert.equal(
          accepts(() => scan(bytes)),
          isObject(text),
          `${offset} ${JSON.stringify(text)}`,
        )
      }
    }
  })

  test('agrees with JSON.parse on every object', () => {
    const wanted = /^(model|ſ?stream)$/i
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string().filter((key) => !wanted.test(key)),
          fc.jsonValue({ maxDepth: 5 }),
        ),
        (value) => {
          const { model, stream } = scanText(JSON.stringify(value, null, 1))
          assert.deepEqual({ model, stream }, { model: null, stream: undefined })
        },
      ),
      { numRuns: 500 },
    )
  })

  test('refuses what JSON.parse refuses, and everything that is no object', () => {
    const object = fc.object({ maxDepth: 2 }).map((value) => JSON.stringify(value))
    const broken = fc.tuple(object, fc.nat(), fc.string({ maxLength: 2 })).map(([text, at, insert]) => {
      const cut = at % (text.length + 1)
      return text.slice(0, cut) + insert + text.slice(cut + (at % 3))
    })
    fc.assert(
      fc.property(broken, (text) => {
        assert.equal(
          accepts(() => scanText(text)),
          isObject(text),
          text,
        )
      }),
      {
        numRuns: 3000,
        examples: [
          ['{"a":1} x'],
          ['{"a":01}'],
          ['{"a":"\n"}'],
          ['{,}'],
          ['{"a":1,}'],
          ['\ufeff{}'],
          ['{"a":[1,]}'],
          ['{"a" 1}'],
          [''],
        ],
      },
    )
  })
})

function accepts(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (error) {
    assert(error instanceof ScanError)
    return false
  }
}

function isObject(text: string): boolean {
  try {
    const value = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    return false
  }
}
