import { defaultClass } from '../fleet/classes.ts'
import type { Config } from '../fleet/config.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import { type ClassRule, defaultParameters, type Parameters } from './parameters.ts'

/** Who may wait for so many times longer than others expect expects it: 5 s of the default 60 s. */
const patiencePerGoal = 12
/** Probes after which what a swap did is seen. */
const settledProbes = 3

/** The parameters as the configuration in force has them: always read anew, since it may change while requests wait. */
export function configured(snapshot: CurrentSnapshot): Parameters {
  const config = () => snapshot.get().config
  // A config is never changed in place.
  let read: { readonly config: Config; readonly rules: ReturnType<typeof classesOf> } | null = null
  const rules = () => {
    if (read?.config !== config()) read = { config: config(), rules: classesOf(config()) }
    return read.rules
  }
  // V8 looks up all properties of an object by name once a getter takes the place of one of its values: those are left out.
  const {
    classes: _c,
    otherClass,
    tenantWeights: _t,
    slots,
    admission,
    swaps,
    ...parameters
  } = defaultParameters
  const { initial: _i, ...otherSlots } = slots
  const { maxQueued: _q, ...otherAdmission } = admission
  const { settleS, ...otherSwaps } = swaps
  return {
    ...parameters,
    get classes() {
      return rules()
    },
    get otherClass() {
      return rules()[defaultClass] ?? otherClass
    },
    get tenantWeights() {
      return config().queue.shares
    },
    slots: {
      ...otherSlots,
      get initial() {
        return config().routing.default_slots
      },
    },
    admission: {
      ...otherAdmission,
      get maxQueued() {
        return config().queue.max_length
      },
      // Each class has its own, which the shell sees to.
      maxWaitS: Number.POSITIVE_INFINITY,
    },
    swaps: {
      ...otherSwaps,
      get settleS() {
        return Math.max(2 * settleS, (settledProbes * config().probes.interval) / 1000)
      },
    },
  }
}

function classesOf(config: Config): Readonly<Record<string, ClassRule>> {
  const { otherClass } = defaultParameters
  return Object.fromEntries(
    config.classes.map(({ name, max_wait = config.queue.max_wait }, rank) => {
      const limitS = max_wait / 1000
      return [name, { rank, limitS, ttftS: Math.max(otherClass.ttftS, limitS / patiencePerGoal) }]
    }),
  )
}
