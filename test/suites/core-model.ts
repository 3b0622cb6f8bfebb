import assert from 'node:assert/strict'
import fc from 'fast-check'
import { Core } from '../../lib/scheduler/core.ts'
import type { Effect, NodeFacts, SchedulerEvent, SchedulingRequest } from '../../lib/scheduler/events.ts'
import { aNode, aRequest, someParameters, someTimings } from '../support/core.ts'

/** Model "only" is on one node, so that its queue can be checked; the others are on both nodes, which have room for two. */
const sizes = { a: 9, b: 9, c: 9 }
const nodesOf = (isUp: boolean, resident: ReadonlyMap<string, ReadonlySet<string>>): NodeFacts[] =>
  [
    { name: 'n1', slots: 2, models: { ...sizes, only: 2 } },
    { name: 'n2', slots: 1, models: sizes, available: isUp },
  ].map((node) => aNode({ ...node, loaded: [...(resident.get(node.name) ?? [])] }))

const ageingS = 30
const parameters = someParameters({
  classes: { high: { rank: 0, ttftS: 5, limitS: 1e6 }, low: { rank: 1, ttftS: 5, limitS: 1e6 } },
  admission: { tenantS: 1e6, leastLimitS: 1e6, evidence: 1e9, maxWaitS: 90, maxQueued: 20 },
})

const models = ['a', 'b', 'c', 'only', 'only'] as const
export const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('arrive' as const),
        model: fc.constantFrom(...models),
        class: fc.constantFrom('high', 'low'),
        tenant: fc.constantFrom('s', 't'),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constantFrom('finish', 'fail', 'busy', 'leave', 'retry'),
        which: fc.nat(30),
      }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('swapped' as const), ok: fc.boolean() }) },
    {
      weight: 3,
      arbitrary: fc.record({ do: fc.constant('wait' as const), seconds: fc.constantFrom(0.2, 1, 5, 31) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('other node' as const), isUp: fc.boolean() }) },
  ),
  { minLength: 5, maxLength: 40 },
)
type Step = typeof steps extends fc.Arbitrary<readonly (infer Each)[]> ? Each : never

interface Running {
  readonly request: SchedulingRequest
  readonly node: string
}

/** A reference model of slots, requests and memory, which checks each effect. */
class Reference {
  now = 1000
  readonly core = new Core({ policy: 'earliest-finish', parameters, random: () => 0.5 })
  readonly waiting = new Map<string, SchedulingRequest>()
  readonly running = new Map<string, Running>()
  readonly resident = new Map([
    ['n1', new Set(['a', 'only'])],
    ['n2', new Set(['b'])],
  ])
  readonly swaps = new Map<string, Extract<Effect, { type: 'swap' }>>()
  isUp = true
  #ids = 0
  /** A node that answered that it is full has fewer slots from then on. */
  #wasBusy = false

  constructor() {
    this.tell({ type: 'fleet', nodes: nodesOf(true, this.resident) })
  }

  tell(...events: readonly SchedulerEvent[]): void {
    for (const event of events) this.core.take(event, this.now)
    const before = [...this.waiting.values()]
    const effects = this.core.pass(this.now)
    for (const effect of effects) this.#check(effect)
    this.#checkOrder(effects, before)
    assert.equal(
      this.core.queued().length,
      this.waiting.size,
      'the queue holds the requests that arrived and have no answer',
    )
  }

  play(step: Step): void {
    if (step.do === 'arrive') {
      const { model, class: name, tenant } = step
      this.#arrive(
        aRequest({
          id: `r${this.#ids++}`,
          model,
          class: name,
          tenant,
          promptTokens: 10,
          arrivedAt: this.now,
        }),
      )
    } else if (step.do === 'wait') {
      this.now += step.seconds
      this.tell({ type: 'tick' })
    } else if (step.do === 'swapped') {
      const [swap] = this.swaps.values()
      if (swap) this.#swapped(swap, step.ok)
    } else if (step.do === 'other node') {
      this.isUp = step.isUp
      this.tell({ type: 'fleet', nodes: nodesOf(this.isUp, this.resident) })
    } else this.#end(step.do, step.which)
  }

  /** Ends every running request and every load until the queue is empty. */
  drain(): void {
    for (let round = 0; this.waiting.size + this.running.size > 0; round++) {
      assert.ok(round < 400, `${[...this.waiting.keys()]} starve`)
      this.now += 0.5
      for (const swap of [...this.swaps.values()]) this.#swapped(swap, true)
      const [id] = this.running.keys()
      if (id !== undefined) this.#end('finish', 0)
      else this.tell({ type: 'tick' })
    }
    assert.equal(this.core.nextTickAt(this.now), null, 'and then no time needs to be told')
  }

  /** Every slot is free when nothing runs: a node's models are requested as often as it has slots. */
  checkSlots(): void {
    for (const [node, loaded] of this.resident) {
      if (node === 'n2' && !this.isUp) continue
      const other = node === 'n1' ? 'n2' : 'n1'
      for (const model of loaded) {
        const slots = node === 'n1' && !this.#wasBusy ? 2 : 1
        for (let nth = 0; nth < slots; nth++) {
          const tried = new Set([other])
          this.#arrive(aRequest({ id: `slot ${node} ${model} ${nth}`, model, tried, arrivedAt: this.now }))
        }
        assert.equal(this.waiting.size, 0, `${model} has its slots on ${node}`)
      }
    }
  }

  #arrive(request: SchedulingRequest): void {
    this.waiting.set(request.id, request)
    this.tell({ type: 'arrived', request })
  }

  #swapped({ node, model }: { node: string; model: string }, ok: boolean): void {
    this.swaps.delete(node)
    if (ok) this.resident.get(node)?.add(model)
    this.tell({ type: 'swapped', node, model, ok, loadS: 5 })
  }

  #end(how: 'finish' | 'fail' | 'busy' | 'leave' | 'retry', which: number): void {
    const all = how === 'leave' ? [...this.running.keys(), ...this.waiting.keys()] : [...this.running.keys()]
    const id = all[which % all.length]
    if (id === undefined) return
    const running = this.running.get(id)
    this.running.delete(id)
    this.waiting.delete(id)
    if (how === 'leave') this.tell({ type: 'left', id })
    else if (how === 'busy') this.#busy(id)
    else this.tell({ type: 'ended', id, timings: how === 'finish' ? someTimings() : null })
    // A request without a first token may be tried elsewhere, and keeps its place.
    if (how === 'retry' && running)
      this.#arrive({ ...running.request, tried: new Set([...running.request.tried, running.node]) })
  }

  #busy(id: string): void {
    this.#wasBusy = true
    this.tell({ type: 'busy', id })
  }

  #check(effect: Effect): void {
    if (effect.type === 'swap') {
      const { node, victims, model } = effect
      assert.ok(!this.swaps.has(node), 'one swap per node')
      for (const victim of victims) {
        assert.equal(this.#count(node, victim), 0, 'a victim runs nothing')
        assert.ok(this.resident.get(node)?.delete(victim), 'a victim is in memory')
      }
      assert.ok(!this.resident.get(node)?.has(model), 'what is in memory is not loaded')
      this.swaps.set(node, effect)
      return
    }
    const request = this.waiting.get(effect.id)
    assert.ok(request, `${effect.id} is answered once`)
    this.waiting.delete(effect.id)
    if (effect.type === 'refuse') return
    const { id, node } = effect
    assert.ok(!request.tried.has(node), 'no node twice')
    assert.ok(node !== 'n2' || this.isUp, 'nothing to a node that is down')
    assert.ok(this.resident.get(node)?.has(request.model), `${request.model} is in the memory of ${node}`)
    this.running.set(id, { request, node })
    assert.ok(this.#count(node, request.model) <= (node === 'n1' ? 2 : 1), 'no more than there are slots')
  }

  /** Of the requests that one node alone can serve, none starts before another of a higher class, or an earlier one of its own tenant. */
  #checkOrder(effects: readonly Effect[], before: readonly SchedulingRequest[]): void {
    const rank = ({ class: name, arrivedAt }: SchedulingRequest) =>
      Number(name === 'low' && this.now < arrivedAt + ageingS)
    const left = before.filter(({ id, model }) => model === 'only' && this.waiting.has(id))
    for (const effect of effects) {
      const started = effect.type === 'start' ? this.running.get(effect.id)?.request : undefined
      if (started?.model !== 'only') continue
      for (const other of left) {
        assert.ok(rank(other) >= rank(started), `${started.id} starts before ${other.id} of a higher class`)
        const isPeer = rank(other) === rank(started) && other.tenant === started.tenant
        const isLate = this.now >= other.arrivedAt + 4.5
        // What they take to be read is worth a moment of their order.
        if (isPeer && !isLate)
          assert.ok(other.arrivedAt > started.arrivedAt - 0.1, `${started.id} overtakes ${other.id}`)
        // Stepping back is worth 30 s, and no more.
        if (isPeer) assert.ok(other.arrivedAt > started.arrivedAt - 30.1, `${other.id} starves`)
      }
    }
  }

  #count(node: string, model: string): number {
    let count = 0
    for (const running of this.running.values())
      if (running.node === node && running.request.model === model) count++
    return count
  }
}

/** Plays so many courses of events against the reference. */
export function checkCore(numRuns: number): void {
  fc.assert(
    fc.property(steps, (course) => {
      const reference = new Reference()
      for (const step of course) reference.play(step)
      reference.drain()
      reference.checkSlots()
    }),
    { numRuns },
  )
}
