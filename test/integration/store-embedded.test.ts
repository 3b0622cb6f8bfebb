import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, afterEach, before, beforeEach, describe, it } from 'node:test'
import { RealClock } from '../../lib/shared/clock.ts'
import { silentLog } from '../../lib/shared/log.ts'
import { EmbeddedStore } from '../../lib/store/embedded/embedded-store.ts'
import { rejects, storeContract } from '../suites/store-contract.ts'

const clock = new RealClock()
const open = (file: string) => EmbeddedStore.open(file, { clock, log: silentLog })

let root: string
let dirs = 0
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'llamero-store-'))
})
after(() => rm(root, { recursive: true, force: true }))

/** A file in a directory of its own that does not exist yet. */
const freshFile = () => join(root, String(++dirs), 'state', 'store')

storeContract('the embedded store', async () => {
  const store = await open(freshFile())
  return { store, close: () => store.close() }
})

describe('the file of the embedded store', () => {
  let file: string
  let store: EmbeddedStore
  const put = (key: string, value: string, lease?: string) =>
    store.commit({ when: [], apply: [{ type: 'put', key, value, ...(lease !== undefined && { lease }) }] })
  const reopen = async () => {
    await store.close()
    store = await open(file)
  }

  beforeEach(async () => {
    file = freshFile()
    store = await open(file)
  })
  afterEach(() => store.close())

  it('is readable by its owner only', async () => {
    assert.equal((await stat(file)).mode & 0o777, 0o600)
  })

  it('keeps entries with their history numbers, and the revision', async () => {
    await put('/a/x', 'one')
    await put('/a/x', 'two')
    await put('/a/y', '')
    await store.commit({ when: [], apply: [{ type: 'delete', key: '/a/y' }] })
    const before = await store.list('/a/')
    await reopen()
    assert.deepEqual(await store.list('/a/'), before)
    assert.equal((await put('/a/z', '')).revision, before.revision + 1n)
  })

  it('drops entries under a lease at restart, but never gives a revision twice', async () => {
    await put('/a/leader', 'before')
    const { id } = await store.grant(60_000)
    const fence = await put('/a/leader', 'me', id)
    await reopen()
    assert.equal(await store.get('/a/leader'), null)
    await rejects(store.renew(id), 'no-lease')
    assert.ok((await put('/a/leader', 'other')).revision > fence.revision)
  })

  it('has no history from before it was opened', async () => {
    const { revision } = await put('/a/x', '')
    await reopen()
    const broken: string[] = []
    const handler = { changed() {}, broken: (reason: string) => broken.push(reason) }
    await store.watch('/a/', revision + 1n, handler)
    assert.deepEqual(broken, [])
    await store.watch('/a/', revision, handler)
    assert.deepEqual(broken, ['compacted'])
  })

  it('keeps a bounded history', async () => {
    const { revision } = await put('/a/x', '0')
    await Promise.all(Array.from({ length: 1500 }, (_, n) => put('/a/x', String(n))))
    const broken: string[] = []
    const seen: bigint[] = []
    const handler = {
      changed: (_: unknown, at: bigint) => seen.push(at),
      broken: (reason: string) => broken.push(reason),
    }
    await store.watch('/a/', revision, handler)
    assert.deepEqual(broken, ['compacted'])
    await store.watch('/a/', revision + 1000n, handler)
    assert.equal(seen.length, 501)
  })

  it('does not grow without end', async () => {
    const value = 'x'.repeat(100_000)
    for (let n = 0; n < 50; n++) await put(`/a/${n % 3}`, `${n}${value}`)
    const { size } = await stat(file)
    assert.ok(size < 2_000_000, `${size} bytes`)
    assert.equal((await stat(file)).mode & 0o777, 0o600)
    const before = await store.list('/a/')
    await reopen()
    assert.deepEqual(await store.list('/a/'), before)
    await store.close()
    assert.deepEqual(await readdir(join(file, '..')), ['store'])
    store = await open(file)
  })

  it('recovers every earlier commit when it is cut at any byte, and goes on from there', async () => {
    const sizes: number[] = []
    for (let n = 1; n <= 4; n++) {
      await put(`/a/${n}`, `value ${n}`)
      sizes.push((await stat(file)).size)
    }
    await store.close()
    const whole = await readFile(file)
    const [first = 0] = sizes
    for (let length = first; length <= whole.length; length++) {
      await writeFile(file, whole.subarray(0, length))
      store = await open(file)
      const kept = sizes.filter((size) => size <= length).length
      assert.equal((await store.list('/a/')).entries.length, kept, `cut at ${length}`)
      assert.equal((await put('/a/next', 'n')).revision, BigInt(kept + 1))
      await reopen()
      assert.equal((await store.list('/a/')).entries.length, kept + 1, `cut at ${length}, written, opened`)
      await store.close()
    }
    store = await open(file)
  })

  it('recovers every earlier commit when any byte of the last one is wrong, or when zeros follow', async () => {
    await put('/a/1', 'value 1')
    const { size } = await stat(file)
    await put('/a/2', 'value 2')
    await store.close()
    const whole = await readFile(file)
    const damaged = [Buffer.concat([whole.subarray(0, size), Buffer.alloc(4096)])]
    for (let at = size; at < whole.length; at++) {
      const bytes = Buffer.from(whole)
      bytes[at] = (bytes[at] ?? 0) ^ 0x01
      damaged.push(bytes)
    }
    for (const bytes of damaged) {
      await writeFile(file, bytes)
      store = await open(file)
      const { entries } = await store.list('/a/')
      assert.deepEqual(
        entries.map(({ key, value }) => [key, value]),
        [['/a/1', 'value 1']],
      )
      await store.close()
    }
    store = await open(file)
  })

  it('refuses a file that is damaged at its head, and leaves it as it is', async () => {
    await store.close()
    for (const bytes of [
      Buffer.from('operator: notes\n'),
      Buffer.alloc(0),
      (await readFile(file)).subarray(0, 30),
    ]) {
      await writeFile(file, bytes)
      await rejects(open(file), 'denied')
      assert.deepEqual(await readFile(file), bytes)
    }
  })

  it('takes no changes while it is removed or replaced, says so, and takes them when it is back (311)', async () => {
    await put('/a/x', 'one')
    const refused = async () => {
      await assert.rejects(put('/a/x', 'lost'), /store was removed or replaced while llamero runs/)
      assert.equal(store.condition.trouble?.kind, 'unwritable')
      assert.equal((await store.get('/a/x'))?.value, 'one', 'what is known stays')
    }
    await rename(file, `${file}.away`)
    await refused()
    await copyFile(`${file}.away`, file)
    const backup = await readFile(file)
    await refused()
    assert.deepEqual(await readFile(file), backup, 'what an operator put there stays as it is')
    await rename(`${file}.away`, file)
    await put('/a/x', 'two')
    await reopen()
    assert.equal((await store.get('/a/x'))?.value, 'two')
  })

  it('answers many commits at the same time with few writes', async () => {
    const timed = async (task: () => Promise<unknown>) => {
      const startedMs = performance.now()
      await task()
      return performance.now() - startedMs
    }
    const oneByOneMs = await timed(async () => {
      for (let n = 0; n < 200; n++) await put(`/a/${n}`, '')
    })
    const togetherMs = await timed(() =>
      Promise.all(Array.from({ length: 200 }, (_, n) => put(`/b/${n}`, ''))),
    )
    assert.ok(togetherMs < oneByOneMs / 2, `${togetherMs} ms together, ${oneByOneMs} ms one by one`)
    assert.equal((await store.list('/b/')).entries.length, 200)
  })

  it('is opened once, and again after it is closed', async () => {
    await assert.rejects(open(file), new RegExp(`in use by process ${process.pid}:`))
    await put('/a/x', 'still mine')
    await reopen()
    assert.equal((await store.get('/a/x'))?.value, 'still mine')
  })

  it('is taken over from a dead process, also when another process has its id now', async () => {
    await store.close()
    for (const claim of ['999999999.1', `${process.pid}.1`]) await writeFile(`${file}.lock.${claim}`, '')
    store = await open(file)
    await store.close()
    assert.deepEqual(await readdir(join(file, '..')), ['store'])
    store = await open(file)
  })

  it('belongs to the process that has it open, until that one is dead', async () => {
    await store.close()
    const holder = script(
      [],
      `await open(${JSON.stringify(file)}); console.log('open'); setTimeout(() => {}, 60_000)`,
    )
    const exited = once(holder, 'exit')
    await once(holder.stdout, 'data')
    await assert.rejects(open(file), new RegExp(`in use by process ${holder.pid}:`))
    holder.kill('SIGKILL')
    await exited
    store = await open(file)
  })

  it('is never open in two of several processes that start at the same time', async () => {
    await store.close()
    await writeFile(`${file}.lock.999999999.1`, '')
    // Each holds it until all have tried.
    const code = `
      const tried = await open(${JSON.stringify(file)}).then(() => 'open', ({ fault }) => fault)
      console.log(tried)
      process.stdin.resume()`
    const children = Array.from({ length: 4 }, () => script([], code))
    const answers = await Promise.all(
      children.map(async ({ stdout }) => String(await once(stdout, 'data')).trim()),
    )
    await Promise.all(
      children.map(async (child) => {
        const exited = once(child, 'exit')
        child.stdin.end()
        await exited
      }),
    )
    assert.ok(answers.filter((answer) => answer === 'open').length <= 1, answers.join())
    assert.ok(answers.every((answer) => answer === 'open' || answer === 'denied'))
    store = await open(file)
  })
})

describe('the embedded store under kill -9', () => {
  it('has every acknowledged write, and of a transaction all or nothing', async () => {
    const file = freshFile()
    for (let life = 0; life < 5; life++) {
      const acknowledged = await writeUntilKilled(file, life, 20 + life * 37)
      const copy = `${file}.copy`
      await copyFile(file, copy)
      for (const path of [copy, file]) {
        const store = await open(path)
        for (let n = 0; n < acknowledged; n++) {
          assert.notEqual(await store.get(`/life/${life}/${n}`), null, `write ${n} of life ${life}`)
        }
        const { entries } = await store.list('/life/')
        const pairs = await store.list('/pair/')
        assert.equal(pairs.entries.length, entries.length)
        await store.close()
      }
    }
  })
})

describe('the embedded store on a full disk', () => {
  it('refuses the write, serves reads, and keeps to what it acknowledged', async () => {
    const file = freshFile()
    // A limit on the size of files does what a full disk does: the write ends in its middle.
    const child = script(
      ['sh', '-c', 'ulimit -f 128; exec "$@"', 'sh'],
      `
      const store = await open(${JSON.stringify(file)})
      const put = (key, length) => store.commit({ when: [], apply: [{ type: 'put', key, value: 'x'.repeat(length) }] })
      // The first is being written while the others wait, to be written together.
      const commits = [put('/a/small', 10), put('/a/no-1', 10), put('/a/no-2', 10), put('/a/big', 900_000)]
      const together = await Promise.allSettled(commits)
      console.log(together.map(({ reason }) => reason?.fault ?? 'stored').join())
      console.log((await store.list('/a/')).entries.map(({ key }) => key).join())
      // As long as the record of no-1, which is in the file already: that of no-2 must not come to life behind it.
      console.log((await put('/a/late', 10)).succeeded)
      await store.close()`,
    )
    const lines: string[] = []
    for await (const line of createInterface({ input: child.stdout })) lines.push(line)
    assert.deepEqual(lines, ['stored,unavailable,unavailable,unavailable', '/a/small', 'true'])
    const store = await open(file)
    const { entries } = await store.list('/a/')
    assert.deepEqual(
      entries.map(({ key }) => key),
      ['/a/late', '/a/small'],
    )
    await store.close()
  })
})

/** Starts a process that writes in a loop and kills it after `count` acknowledgements. Returns how many there were. */
async function writeUntilKilled(file: string, life: number, count: number): Promise<number> {
  const child = script(
    [],
    `
    const store = await open(${JSON.stringify(file)})
    const value = 'x'.repeat(20_000)
    for (let n = 0; ; n++) {
      await store.commit({ when: [], apply: [
        { type: 'put', key: '/life/${life}/' + n, value },
        { type: 'put', key: '/pair/${life}/' + n, value: '' },
      ] })
      process.stdout.write(n + '\\n')
    }`,
  )
  const exited = once(child, 'exit')
  let acknowledged = 0
  for await (const _ of createInterface({ input: child.stdout })) {
    acknowledged += 1
    if (acknowledged === count) child.kill('SIGKILL')
  }
  await exited
  assert.ok(acknowledged >= count)
  return acknowledged
}

/** A process of its own that runs `code`, started through the command `through`. */
function script(through: readonly string[], code: string) {
  const imports = `
    import { RealClock } from './lib/shared/clock.ts'
    import { silentLog } from './lib/shared/log.ts'
    import { EmbeddedStore } from './lib/store/embedded/embedded-store.ts'
    const open = (file) => EmbeddedStore.open(file, { clock: new RealClock(), log: silentLog })
  `
  const [program = '', ...args] = [
    ...through,
    process.execPath,
    '--input-type=module',
    '--eval',
    imports + code,
  ]
  return spawn(program, args, {
    cwd: join(import.meta.dirname, '..', '..'),
    stdio: ['pipe', 'pipe', 'inherit'],
  })
}
