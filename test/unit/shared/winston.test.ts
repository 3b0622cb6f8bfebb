import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { createLog } from '../../../lib/shared/winston.ts'

/** A stream that keeps what it is given, and answers only when told to. */
class Sink extends Writable {
  text = ''
  stuck: (() => void)[] | null = null

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk
    if (this.stuck) this.stuck.push(done)
    else done()
  }

  lines(): Record<string, unknown>[] {
    return this.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
  }
}

test('a line of the log is one JSON object with time, level, message and fields', async () => {
  const stream = new Sink()
  const log = createLog({ level: 'info', format: 'json', stream })
  log.info('something', {
    a: 1,
    text: 'two\nlines \u001b[31m',
  })
  await log.flush()
  const [line] = stream.lines()
  assert.match(String(line?.['timestamp']), /^\d{4}-\d\d-\d\dT/)
  assert.deepEqual(
    { ...line, timestamp: '' },
    { timestamp: '', level: 'info', message: 'something', a: 1, text: 'two\nlines \u001b[31m' },
  )
  assert.equal(stream.text.split('\n').length, 2, 'a line break in a field is escaped')
})

test('errors are logged with their code and causes, without a stack; bigints like numbers', () => {
  const stream = new Sink()
  const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })
  createLog({ level: 'info', format: 'json', stream }).warn('failed', {
    error: new Error('no answer', { cause }),
    fence: 7n,
  })
  const [line] = stream.lines()
  assert.deepEqual([line?.['error'], line?.['fence']], ['no answer: refused [ECONNREFUSED]', '7'])
})

test('info lines are written together soon, and before the next warning', ({ mock }) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const stream = new Sink()
  const log = createLog({ level: 'info', format: 'json', stream })
  log.info('first')
  log.info('second')
  assert.equal(stream.text, '')
  mock.timers.tick(5)
  const messages = () => stream.lines().map(({ message }) => message)
  assert.deepEqual(messages(), ['first', 'second'])
  log.info('third')
  log.warn('fourth')
  assert.deepEqual(messages(), ['first', 'second', 'third', 'fourth'])
})

test('lines below the level are not written', () => {
  const stream = new Sink()
  const log = createLog({ level: 'warn', format: 'text', stream })
  log.info('quiet')
  log.error('loud', { node: 'a' })
  assert.match(stream.text, /^\d\d:\d\d:\d\d error loud node=a\n$/)
})

test('a stuck reader costs bounded memory, and learns how many lines were dropped', async () => {
  const stream = new Sink()
  const log = createLog({ level: 'info', format: 'json', stream })
  stream.stuck = []
  const big = 'x'.repeat(1024 * 1024)
  for (let n = 0; n < 100; n++) log.info(big)
  assert(stream.writableLength < 10 * 1024 * 1024, `${stream.writableLength} bytes wait`)
  const waiting = stream.stuck
  stream.stuck = null
  for (const done of waiting) done()
  log.info('after')
  await log.flush()
  const missed = stream.lines().find(({ message }) => message === 'log lines dropped')
  assert(Number(missed?.['lines']) > 80)
  assert.equal(stream.lines().at(-1)?.['message'], 'after')
})

test('a flush ends when the reader has the last line, and not before (P25)', async () => {
  const stream = new Sink()
  const log = createLog({ level: 'info', format: 'json', stream })
  await log.flush()
  stream.stuck = []
  log.info('first')
  log.info('last')
  let flushed = false
  const flushing = log.flush().then(() => {
    flushed = true
  })
  await new Promise(setImmediate)
  assert.equal(flushed, false)
  const waiting = stream.stuck
  stream.stuck = null
  for (const done of waiting) done()
  await flushing
  assert.deepEqual(
    stream.lines().map(({ message }) => message),
    ['first', 'last'],
  )
})

test('each line for the journal carries its level, in both formats; so does the line about dropped lines (311)', async () => {
  for (const format of ['json', 'text'] as const) {
    const stream = new Sink()
    const log = createLog({ level: 'debug', format, stream, journal: true })
    log.error('e', { field: 'two\nlines' })
    log.warn('w')
    log.info('i')
    log.debug('d')
    await log.flush()
    const priorities = stream.text
      .trim()
      .split('\n')
      .map((line) => /^<\d>/.exec(line)?.[0])
    assert.deepEqual(priorities, ['<3>', '<4>', '<6>', '<7>'], format)
  }
  const stuck = new Sink()
  const log = createLog({ level: 'info', format: 'json', stream: stuck, journal: true })
  stuck.stuck = []
  for (let n = 0; n < 20; n++) log.info('x'.repeat(1024 * 1024))
  const waiting = stuck.stuck
  stuck.stuck = null
  for (const done of waiting) done()
  log.info('after')
  await log.flush()
  assert.match(stuck.text, /^<4>\{.*"log lines dropped"/m)
})

/** As a hostile node may write it: an escape sequence, its 8-bit form, an override of direction, a line separator. */
const nasty = '\u001b[2J\u009b31m\u202e\u2028\u007f'

test('foreign text is cut and cannot control a terminal: as a field, in a list, as an error and its cause (352)', () => {
  for (const format of ['json', 'text'] as const) {
    const stream = new Sink()
    const long = nasty + 'x'.repeat(1_000_000)
    const error = new Error(long, { cause: new Error(long) })
    createLog({ level: 'info', format, stream }).warn('failed', { reason: long, nodes: ['a', long], error })
    assert.ok(stream.text.length < 4000, `${stream.text.length} characters`)
    assert.doesNotMatch(stream.text.trimEnd(), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
    if (format === 'text') continue
    const [line] = stream.lines()
    assert.ok(String(line?.['reason']).startsWith(nasty), 'it means the same')
    assert.match(String(line?.['reason']), /x… \(\d+ more characters\)$/)
  }
})

test('a stack and the faults of a document have more room (352)', () => {
  const stream = new Sink()
  const text = 'x'.repeat(3000)
  createLog({ level: 'info', format: 'json', stream }).warn('failed', { stack: text, faults: text })
  const [line] = stream.lines()
  assert.deepEqual([line?.['stack'], line?.['faults']], [text, text])
})

test('in the text format no value looks like another field (352)', () => {
  const stream = new Sink()
  const fields = {
    url: 'http://a:1/x',
    reason: 'x level=error',
    empty: '',
    equal: 'a=b',
    quote: '"',
    back: 'a\\',
    n: 5,
  }
  createLog({ level: 'info', format: 'text', stream }).warn('failed', fields)
  assert.equal(
    stream.text.trim().slice('00:00:00 '.length),
    'warn  failed url=http://a:1/x reason="x level=error" empty="" equal="a=b" quote="\\"" back="a\\\\" n=5',
  )
})
