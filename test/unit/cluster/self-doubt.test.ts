import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { LatenessLimit } from '../../../lib/cluster/leader/lateness-limit.ts'
import { SelfDoubt, type Watched } from '../../../lib/cluster/leader/self-doubt.ts'
import type { Answers } from '../../../lib/cluster/probing/inquiry.ts'
import { silentLog } from '../../../lib/shared/log.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

type Sketch = Partial<Omit<Watched, 'name'>>
const up: Sketch = {}
const fails: Sketch = { isUnreached: true }
const down: Sketch = { isUnreached: true, seen: 'down' }
const written: Sketch = { isUnreached: true, seen: 'down', published: 'down' }

/** Nodes a, b, c and so on, up unless the sketch says otherwise. */
const fleet = (...sketches: readonly Sketch[]): Watched[] =>
  sketches.map((sketch, nth) => ({
    name: 'abcdefgh'[nth] ?? '',
    published: 'up',
    seen: 'up',
    isUnreached: false,
    ...sketch,
  }))

function aLeader({ successors = ['y', 'z'], fails: handOverFails = false } = {}) {
  const clock = new VirtualClock()
  const asked: string[][] = []
  const handedTo: string[] = []
  const lines: string[] = []
  const note = (line: string) => void lines.push(line)
  let answer: (answers: Answers) => void = () => {}
  const doubt = new SelfDoubt({
    clock,
    log: { ...silentLog, warn: note, info: note },
    successors: () => successors,
    ask: (nodes) => {
      asked.push([...nodes])
      return new Promise((resolve) => {
        answer = resolve
      })
    },
    handOver: async (to) => {
      handedTo.push(to)
      if (handOverFails) throw new Error('the store is away')
    },
    changed: () => {},
  })
  return {
    clock,
    asked,
    handedTo,
    lines,
    holds: (...sketches: readonly Sketch[]) => [...doubt.holdBack(fleet(...sketches))].join(' '),
    /** The nodes that each instance reaches, in letters. */
    answer: async (answers: Readonly<Record<string, string>>) => {
      answer(new Map(Object.entries(answers).map(([id, nodes]) => [id, new Set(nodes)])))
      await clock.advance(0)
    },
  }
}

suite('a leader', () => {
  test('writes a single node down at once, and two that fail at different times (301)', async () => {
    const leader = aLeader()
    assert.equal(leader.holds(down, up, up), '')
    await leader.clock.advance(11_000)
    assert.equal(leader.holds(written, down, up, up, up), '')
    assert.deepEqual(leader.asked, [])
  })

  test('writes nothing of nodes that fail together, and asks the others (301)', () => {
    for (const [sketches, held] of [
      [[down], 'a'],
      [[down, fails], 'a'],
      [[down, fails, fails, fails], 'a'],
      [[down, down, up, up], 'a b'],
      [[down, fails, up], 'a'],
      [[written, written, down], 'c'],
    ] as const) {
      const leader = aLeader()
      assert.equal(leader.holds(...sketches), held)
      assert.equal(leader.asked.length, 1)
      leader.holds(...sketches)
      assert.equal(leader.asked.length, 1, 'one question at a time')
      assert.match(leader.lines.join(), /^nodes fail together/)
    }
  })

  test('writes nodes down at once that answer with errors: the way to them is well (301)', async () => {
    const leader = aLeader()
    const answersWrongly: Sketch = { seen: 'down' }
    assert.equal(leader.holds(answersWrongly, answersWrongly, answersWrongly), '')
    assert.deepEqual(leader.asked, [])
    await leader.clock.advance(11_000)
    assert.equal(
      leader.holds(down, down, answersWrongly),
      'a b',
      'which does not hide those that are not reached',
    )
  })

  test('notices that nodes fail together also when they are found down one after the other (301)', async () => {
    const leader = aLeader()
    assert.equal(leader.holds(down, up, up), '')
    await leader.clock.advance(1000)
    assert.equal(leader.holds(written, down, up), 'b', 'two of three within seconds')
    assert.deepEqual(leader.asked, [['a', 'b', 'c']])
  })

  test('writes down at once what fails together when there is no other instance (301)', () => {
    const leader = aLeader({ successors: [] })
    assert.equal(leader.holds(down, down), '')
    assert.deepEqual(leader.asked, [])
  })

  test('hands leadership to the instance that reaches most, and writes nothing (301)', async () => {
    const leader = aLeader()
    leader.holds(down, down, down)
    await leader.answer({ y: 'a', z: 'ac' })
    assert.deepEqual(leader.handedTo, ['z'])
    assert.equal(leader.holds(down, down, down), 'a b c', 'until it does not lead any more')
    assert.equal(leader.lines.length, 2)
  })

  test('does not hand over to an instance that reaches no more nodes than itself (301)', async () => {
    const leader = aLeader()
    leader.holds(down, down, up)
    await leader.answer({ y: 'a', z: '' })
    assert.deepEqual(leader.handedTo, [])
    for (let second = 0; second < 20; second++) {
      assert.equal(leader.holds(down, down, up), 'a', 'a is reached by another instance, b by none')
      await leader.clock.advance(1000)
    }
    assert.equal(leader.asked.length, 1, 'the answer counts for a while')
    await leader.clock.advance(11_000)
    leader.holds(down, down, up)
    assert.equal(leader.asked.length, 2)
  })

  test('writes down what no other instance reaches either, or when none answers (301)', async () => {
    for (const answers of [{ y: '', z: '' }, {}]) {
      const leader = aLeader()
      leader.holds(down, down)
      await leader.answer(answers)
      assert.equal(leader.holds(down, down), '')
      assert.deepEqual(leader.handedTo, [])
      assert.match(leader.lines.at(-1) ?? '', /no other instance reaches more nodes/)
    }
  })

  test('believes it only for as long as the nodes fail (301)', async () => {
    const leader = aLeader()
    leader.holds(down, down)
    await leader.answer({ y: '', z: '' })
    assert.equal(leader.holds(up, up), '')
    await leader.clock.advance(11_000)
    assert.equal(leader.holds(down, down), 'a b')
    assert.equal(leader.asked.length, 2)
  })

  test('asks again when leadership could not be handed over (301)', async () => {
    const leader = aLeader({ fails: true })
    leader.holds(down)
    await leader.answer({ z: 'a' })
    assert.equal(leader.holds(down), 'a')
    assert.equal(leader.asked.length, 2)
  })

  test('gives up when its own lateness costs probes for eight seconds, not for one bad moment (301)', async () => {
    const clock = new VirtualClock()
    let exceeded = 0
    const limit = new LatenessLimit({ clock, exceeded: () => void exceeded++ })
    for (let n = 0; n < 50; n++) {
      limit.note()
      await clock.advance(100)
    }
    assert.equal(exceeded, 0, 'five seconds')
    await clock.advance(30_000)
    for (let n = 0; n < 2; n++) {
      limit.note()
      await clock.advance(4000)
    }
    assert.equal(exceeded, 0)
    limit.note()
    assert.equal(exceeded, 1)
    limit.note()
    assert.equal(exceeded, 1, 'the count begins anew')
  })
})
