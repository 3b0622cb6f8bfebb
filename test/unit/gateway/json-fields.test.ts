import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { FieldNames } from '../../../lib/gateway/body/field-names.ts'
import { Scan, type Scanned, scan } from '../../../lib/gateway/body/json-fields.ts'
import { ScanError } from '../../../lib/shared/json/json-walk.ts'

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

  test('leaves stream undefined when absent or no boolean', () => {
    for (const body of ['{}', '{"stream":null}', '{"stream":"false"}', '{"stream":0}', '{"stream":[]}']) {
      assert.equal(scanText(body).stream, undefined, body)
    }
  })

  test('refuses a repeated or differently spelled model, which Ollama would read differently', () => {
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

  test('refuses too many fields before it decodes their names', () => {
    const fields = (count: number) => `{${Array.from({ length: count }, (_, n) => `"m${n}":0`).join()}}`
    assert.doesNotThrow(() => scanText(fields(1000)))
    assert.throws(() => scanText(fields(1001)), /more than 1000 fields/)
  })

  test('finds the end of long strings at any place in memory', () => {
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

  test('refuses what JSON.parse refuses, and everything but objects', () => {
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

suite('a scan in steps', () => {
  const names = new FieldNames(['model', 'stream', 'keep_alive', 'options', 'tools'])
  const options = new FieldNames(['num_ctx', 'num_gpu'])
  const tell = ({ start, count, fields, model, stream, options: inner, values, prompt }: Scanned) => ({
    start,
    count,
    fields: [...fields],
    model,
    stream,
    options: inner && [inner.start, inner.count, ...inner.fields],
    values,
    pieces: prompt.of(['tools', 'system', 'messages', 'prompt']),
  })
  const inSteps = (bytes: Buffer, step: number) => {
    const scanning = new Scan(bytes, names, options)
    while (!scanning.read(step));
    return scanning.result()
  }
  const outcomeOf = (read: () => Scanned) => {
    try {
      return tell(read())
    } catch (error) {
      if (error instanceof ScanError) return error.message
      throw error
    }
  }

  test('finds the same as a scan at once, with steps of any size (345)', () => {
    const body = fc
      .record(
        {
          model: fc.oneof(fc.constant('m'), fc.string()),
          stream: fc.boolean(),
          keep_alive: fc.oneof(fc.string(), fc.integer()),
          options: fc.oneof(fc.dictionary(fc.constantFrom('num_ctx', 'a'), fc.integer()), fc.string()),
          tools: fc.array(fc.object({ maxDepth: 2 }), { maxLength: 3 }),
          messages: fc.array(fc.record({ content: fc.string({ unit: 'binary' }) }), { maxLength: 3 }),
          other: fc.object({ maxDepth: 3 }),
        },
        { requiredKeys: [] },
      )
      .map((value) => JSON.stringify(value))
    const cut = fc.tuple(body, fc.nat(200)).map(([text, end]) => text.slice(0, end))
    fc.assert(
      fc.property(fc.oneof(body, body, cut), fc.integer({ min: 1, max: 40 }), (text, step) => {
        const bytes = Buffer.from(text)
        const atOnce = outcomeOf(() => scan(bytes, names, options))
        assert.deepEqual(
          outcomeOf(() => inSteps(bytes, step)),
          atOnce,
        )
      }),
      { numRuns: 300 },
    )
  })

  test('takes no step much longer than asked for, with any bytes (345)', () => {
    const mib = 1024 * 1024
    const bodies = ['x'.repeat(mib), '\\n'.repeat(mib / 2), ' '.repeat(1000)].map(
      (text) => `{"model":"m","x":"${text}"}`,
    )
    for (const text of [...bodies, `{"model":"m","x":[${'1,'.repeat(mib / 2)}1]}`]) {
      const scanning = new Scan(Buffer.from(text), names, options)
      let steps = 1
      while (!scanning.read(1024)) steps++
      assert(steps >= Math.floor(text.length / 1030), `${steps} steps`)
    }
  })

  test('refuses tokens that are too long to be read in steps (345)', () => {
    for (const [text, reason] of [
      [`{"model":"m","${'k'.repeat(70_000)}":1}`, /field name is longer/],
      [`{"model":"m","x":${'1'.repeat(2000)}}`, /more than 1000 digits/],
      [`{"model":"m","x":${' '.repeat(1_100_000)}1}`, /white space/],
      [`{"model":"${'m'.repeat(5000)}"}`, /longer than 4096/],
    ] as const)
      assert.throws(() => scan(Buffer.from(text), names, options), reason)
  })
})
