import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Change,
  type Operation,
  type Store,
  StoreError,
  type StoreFault,
} from '../../lib/store/store.ts'

interface Opened {
  readonly store: Store
  /** Closes the store and its server. */
  close(): Promise<void>
}

/** What every store promises, told from outside. */
export function storeContract(name: string, open: () => Promise<Opened>): void {
  describe(name, () => {
    let opened: Opened
    let store: Store
    let folders = 0
    const folder = () => `/contract/${++folders}/`

    before(async () => {
      opened = await open()
      store = opened.store
    })
    after(() => opened.close())

    const put = (key: string, value: string, lease?: string) =>
      store.commit({ when: [], apply: [{ type: 'put', key, value, ...(lease !== undefined && { lease }) }] })
    const remove = (key: string) => store.commit({ when: [], apply: [{ type: 'delete', key }] })

    describe('get and list', () => {
      it('answers null for a key that is not there', async () => {
        assert.equal(await store.get(`${folder()}nothing`), null)
      })

      it('keeps the create revision over puts and begins anew after a delete', async () => {
        const key = `${folder()}a`
        const first = await put(key, 'one')
        const second = await put(key, 'two')
        assert.deepEqual(await store.get(key), {
          key,
          value: 'two',
          created: first.revision,
          modified: second.revision,
          lease: null,
        })
        await remove(key)
        assert.equal(await store.get(key), null)
        const third = await put(key, 'three')
        assert.equal((await store.get(key))?.created, third.revision)
      })

      it('keeps any text, empty and not ASCII too', async () => {
        const key = `${folder()}ü ← 🦙`
        for (const value of ['', '{"llama":"🦙"}\n\u0000']) {
          await put(key, value)
          assert.equal((await store.get(key))?.value, value)
        }
      })

      it('lists what is under the prefix in the order of keys, and not its neighbours', async () => {
        const inside = folder()
        const beside = [inside.slice(0, -1), `${inside.slice(0, -1)}0`, `${inside.slice(0, -1)}.`]
        for (const key of [`${inside}b`, `${inside}a/c`, `${inside}a`, ...beside]) await put(key, key)
        const { entries, revision } = await store.list(inside)
        assert.deepEqual(
          entries.map(({ key }) => key),
          [`${inside}a`, `${inside}a/c`, `${inside}b`],
        )
        assert.equal((await put(`${inside}d`, '')).revision, revision + 1n)
      })

      it('lists more entries than fit on a page at one revision, while others write', async () => {
        const inside = folder()
        const count = 1200
        for (let done = 0; done < count; done += 120) {
          const apply = Array.from({ length: 120 }, (_, index): Operation => {
            return { type: 'put', key: `${inside}${String(done + index).padStart(5, '0')}`, value: 'old' }
          })
          await store.commit({ when: [], apply })
        }
        const last = `${inside}${String(count - 1).padStart(5, '0')}`
        const [{ entries, revision }, written] = await Promise.all([store.list(inside), put(last, 'new')])
        assert.equal(entries.length, count)
        assert.equal(entries.at(-1)?.value, written.revision <= revision ? 'new' : 'old')
      })

      it('lists an empty folder with the revision it was empty at', async () => {
        const before = await put(`${folder()}x`, '')
        assert.deepEqual(await store.list(folder()), { entries: [], revision: before.revision })
      })

      it('tells the number of entries and their newest revision', async () => {
        const inside = folder()
        assert.deepEqual(await store.newest(inside), { count: 0, modified: 0n })
        await put(`${inside}a`, '1')
        await put(`${inside}b`, '1')
        const { revision } = await put(`${inside}a`, '2')
        assert.deepEqual(await store.newest(inside), { count: 2, modified: revision })
      })

      it('refuses a prefix without a slash at its end', async () => {
        await rejects(store.list('/contract'), 'denied')
        await rejects(store.newest('/contract'), 'denied')
        await rejects(store.watch('/contract', 1n, { changed() {}, broken() {} }), 'denied')
      })
    })

    describe('commit', () => {
      it('creates a key once', async () => {
        const key = `${folder()}once`
        const create = (value: string) =>
          store.commit({
            when: [{ key, created: 0n }],
            apply: [{ type: 'put', key, value }],
            otherwise: [key],
          })
        const first = await create('mine')
        assert.equal(first.succeeded, true)
        assert.deepEqual(first.found, [])
        const second = await create('yours')
        assert.equal(second.succeeded, false)
        assert.equal(second.revision, first.revision)
        assert.equal(second.found[0]?.value, 'mine')
        assert.equal(second.found[0]?.created, first.revision)
      })

      it('lets exactly one of many at the same time create a key', async () => {
        const key = `${folder()}race`
        const commits = await Promise.all(
          Array.from({ length: 10 }, (_, index) =>
            store.commit({
              when: [{ key, created: 0n }],
              apply: [{ type: 'put', key, value: String(index) }],
              otherwise: [key],
            }),
          ),
        )
        const winners = commits.filter(({ succeeded }) => succeeded)
        assert.equal(winners.length, 1)
        for (const { succeeded, found } of commits) {
          if (!succeeded) assert.equal(found[0]?.created, winners[0]?.revision)
        }
      })

      it('compares the modified revision', async () => {
        const key = `${folder()}edit`
        const read = await put(key, 'v1')
        const edit = (value: string) =>
          store.commit({ when: [{ key, modified: read.revision }], apply: [{ type: 'put', key, value }] })
        assert.equal((await edit('v2')).succeeded, true)
        assert.equal((await edit('v3')).succeeded, false)
        assert.equal((await store.get(key))?.value, 'v2')
      })

      it('applies all or nothing, and every change has the same revision', async () => {
        const inside = folder()
        const fence = await put(`${inside}leader`, 'me')
        const write = (created: bigint) =>
          store.commit({
            when: [
              { key: `${inside}leader`, created },
              { key: `${inside}b`, created: 0n },
            ],
            apply: [
              { type: 'put', key: `${inside}a`, value: '1' },
              { type: 'put', key: `${inside}b`, value: '2' },
              { type: 'delete', key: `${inside}never-was` },
            ],
            otherwise: [`${inside}b`, `${inside}leader`],
          })
        const refused = await write(fence.revision + 1n)
        assert.equal(refused.succeeded, false)
        assert.deepEqual(
          refused.found.map((entry) => entry?.value ?? null),
          [null, 'me'],
        )
        assert.equal((await store.list(inside)).entries.length, 1)
        const { revision } = await write(fence.revision)
        for (const name of ['a', 'b']) assert.equal((await store.get(`${inside}${name}`))?.modified, revision)
      })

      it('makes no revision when nothing changes', async () => {
        const { revision } = await put(`${folder()}a`, '')
        assert.equal((await remove(`${folder()}b`)).revision, revision)
      })

      it('takes 128 operations and refuses 129', async () => {
        const inside = folder()
        const apply = (length: number) =>
          Array.from(
            { length },
            (_, index): Operation => ({ type: 'put', key: `${inside}${index}`, value: '' }),
          )
        await rejects(store.commit({ when: [], apply: apply(129) }), 'denied')
        assert.equal((await store.list(inside)).entries.length, 0)
        assert.equal((await store.commit({ when: [], apply: apply(128) })).succeeded, true)
      })

      it('takes a value of 1.4 MB and refuses one of 1.6 MB', async () => {
        const key = `${folder()}big`
        await rejects(put(key, 'x'.repeat(1_600_000)), 'denied')
        assert.equal(await store.get(key), null)
        await put(key, 'x'.repeat(1_400_000))
        assert.equal((await store.get(key))?.value.length, 1_400_000)
        await remove(key)
      })

      it('refuses to change a key twice', async () => {
        const key = `${folder()}twice`
        const once: Operation = { type: 'put', key, value: '' }
        await rejects(store.commit({ when: [], apply: [once, once] }), 'denied')
        await rejects(store.commit({ when: [], apply: [{ type: 'delete', key }, once] }), 'denied')
      })
    })

    describe('watch', () => {
      it('tells every change from a past revision on, in order, then the new ones', async () => {
        const inside = folder()
        const { revision } = await put(`${inside}a`, '1')
        await put(`${inside}b`, '2')
        await remove(`${inside}a`)
        const seen = await watching(store, inside, revision)
        await put(`${inside}c`, '3')
        await seen.until(4)
        assert.deepEqual(seen.changes.map(spoken), [
          `put ${inside}a=1 @${revision}`,
          `put ${inside}b=2 @${revision + 1n}`,
          `delete ${inside}a @${revision + 2n}`,
          `put ${inside}c=3 @${revision + 3n}`,
        ])
        seen.close()
      })

      it('tells nothing from before its revision, of neighbours, or after it was closed', async () => {
        const inside = folder()
        await put(`${inside}early`, '')
        const { revision } = await store.list(inside)
        const seen = await watching(store, inside, revision + 1n)
        await put(`${inside.slice(0, -1)}0`, '')
        await put(inside.slice(0, -1), '')
        await put(`${inside}seen`, '')
        await seen.until(1)
        seen.close()
        seen.close()
        await put(`${inside}late`, '')
        const other = await watching(store, inside, revision + 1n)
        await other.until(2)
        assert.equal(seen.changes.length, 1)
        assert.equal(seen.changes[0] && keyOf(seen.changes[0]), `${inside}seen`)
        other.close()
      })

      it('tells the changes of one transaction together', async () => {
        const inside = folder()
        const { revision } = await store.list(inside)
        const seen = await watching(store, inside, revision + 1n)
        await store.commit({
          when: [],
          apply: [
            { type: 'put', key: `${inside}a`, value: '' },
            { type: 'put', key: `${inside}b`, value: '' },
          ],
        })
        await seen.until(2)
        assert.deepEqual(seen.batches, [{ size: 2, revision: revision + 1n }])
        seen.close()
      })

      it('loses nothing and keeps the order while many write', async () => {
        const inside = folder()
        const { revision } = await store.list(inside)
        const early = Promise.all(Array.from({ length: 100 }, (_, n) => put(`${inside}${n % 7}`, `a${n}`)))
        const seen = await watching(store, inside, revision + 1n)
        const late = Promise.all(Array.from({ length: 100 }, (_, n) => put(`${inside}${n % 7}`, `b${n}`)))
        const commits = [...(await early), ...(await late)]
        await seen.until(200)
        const revisions = seen.changes.map(modifiedOf)
        const written = commits.map((commit) => commit.revision).sort((a, b) => (a < b ? -1 : 1))
        assert.deepEqual(revisions, written)
        seen.close()
      })
    })

    describe('lease', () => {
      it('deletes its keys when it expires, and the watch tells', async () => {
        const inside = folder()
        const { id, ttlMs } = await store.grant(2000)
        assert.ok(ttlMs >= 2000)
        const { revision } = await put(`${inside}leased`, 'v', id)
        await put(`${inside}free`, 'v')
        assert.equal((await store.get(`${inside}leased`))?.lease, id)
        const seen = await watching(store, inside, revision + 2n)
        await seen.until(1)
        assert.equal(seen.changes[0]?.type, 'delete')
        assert.equal(await store.get(`${inside}leased`), null)
        assert.notEqual(await store.get(`${inside}free`), null)
        await rejects(store.renew(id), 'no-lease')
        await rejects(put(`${inside}leased`, 'v', id), 'no-lease')
        seen.close()
      })

      it('lives on while it is renewed', async () => {
        const key = `${folder()}leased`
        const { id, ttlMs } = await store.grant(2000)
        await put(key, 'v', id)
        const untilMs = performance.now() + 2 * ttlMs
        while (performance.now() < untilMs) {
          assert.equal(await store.renew(id), ttlMs)
          await sleep(ttlMs / 4)
        }
        assert.notEqual(await store.get(key), null)
        await store.revoke(id)
      })

      it('takes its keys along when it is revoked, and may be revoked again', async () => {
        const inside = folder()
        const { id } = await store.grant(60_000)
        const { revision } = await put(`${inside}a`, '', id)
        await put(`${inside}b`, '', id)
        const seen = await watching(store, inside, revision + 2n)
        await store.revoke(id)
        assert.deepEqual((await store.list(inside)).entries, [])
        await seen.until(2)
        assert.deepEqual(new Set(seen.changes.map(keyOf)), new Set([`${inside}a`, `${inside}b`]))
        await rejects(store.renew(id), 'no-lease')
        await store.revoke(id)
        seen.close()
      })

      it('lets go of a key that is put without it', async () => {
        const key = `${folder()}a`
        const { id } = await store.grant(60_000)
        await put(key, 'leased', id)
        await put(key, 'free')
        await store.revoke(id)
        assert.equal((await store.get(key))?.value, 'free')
        assert.equal((await store.get(key))?.lease, null)
      })

      it('refuses a lease nobody granted, whole', async () => {
        const inside = folder()
        const commit = store.commit({
          when: [],
          apply: [
            { type: 'put', key: `${inside}a`, value: '' },
            { type: 'put', key: `${inside}b`, value: '', lease: '1234567' },
          ],
        })
        await rejects(commit, 'no-lease')
        assert.deepEqual((await store.list(inside)).entries, [])
        await rejects(store.renew('1234567'), 'no-lease')
      })
    })

    it('rejects every call with closed after it was closed, and tells its watches nothing more', async () => {
      const { store: other, close } = await open()
      const handler = {
        changed: () => assert.fail('a change after close'),
        broken: () => assert.fail('broken by close'),
      }
      const { revision } = await other.list('/contract/')
      const watch = await other.watch('/contract/', revision + 1n, handler)
      await Promise.all([other.close(), other.close()])
      await rejects(other.get('/contract/a'), 'closed')
      await rejects(other.list('/contract/'), 'closed')
      await rejects(other.newest('/contract/'), 'closed')
      await rejects(other.watch('/contract/', 1n, handler), 'closed')
      await rejects(other.commit({ when: [], apply: [] }), 'closed')
      await rejects(other.grant(1000), 'closed')
      await rejects(other.renew('1'), 'closed')
      await rejects(other.revoke('1'), 'closed')
      watch.close()
      await close()
    })
  })
}

/** Asserts that a call is refused for this reason, and that no other class of error leaks. */
export async function rejects(call: Promise<unknown>, fault: StoreFault): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    assert.ok(error instanceof StoreError, `not a StoreError: ${error}`)
    assert.equal(error.fault, fault, error.message)
    return true
  })
}

/** Resolves once `holds` does; fails, naming what was awaited, after `limitMs` milliseconds. */
export async function eventually(what: string, holds: () => boolean, limitMs = 10_000): Promise<void> {
  const untilMs = performance.now() + limitMs
  while (!holds()) {
    assert.ok(performance.now() < untilMs, `still waiting for: ${what}`)
    await sleep(5)
  }
}

async function watching(store: Store, prefix: string, from: bigint) {
  const changes: Change[] = []
  const batches: { size: number; revision: bigint }[] = []
  const watch = await store.watch(prefix, from, {
    changed(some, revision) {
      changes.push(...some)
      batches.push({ size: some.length, revision })
    },
    broken: (reason, error) => assert.fail(`the watch broke: ${reason} ${error?.message}`),
  })
  return {
    changes,
    batches,
    close: () => watch.close(),
    until: (count: number) => eventually(`${count} changes`, () => changes.length >= count),
  }
}

function keyOf(change: Change): string {
  return change.type === 'put' ? change.entry.key : change.key
}

function modifiedOf(change: Change): bigint {
  return change.type === 'put' ? change.entry.modified : change.modified
}

function spoken(change: Change): string {
  const value = change.type === 'put' ? `=${change.entry.value}` : ''
  return `${change.type} ${keyOf(change)}${value} @${modifiedOf(change)}`
}
