import { defaultClass } from '../fleet/classes.ts'
import type { Config } from '../fleet/config.ts'
import type { CurrentSnapshot } from '../fleet/snapshot.ts'
import { type ClassParameters, defaultParameters, type Parameters } from './parameters.ts'

/** The wait limit of a class over its goal for the first token: the default 60 s make a goal of 5 s. */
const limitPerGoal = 12
/** Probes until the snapshot shows what a swap did. */
const settledProbes = 3

/** The parameters by the config in force. They are getters: the config may change while requests wait. */
export function configured(snapshot: CurrentSnapshot): Parameters {
  const config = () => snapshot.get().config
  // A config is never changed in place, so its identity tells whether it is the same.
  let read: { readonly config: Config; readonly classes: ReturnType<typeof classesOf> } | null = null
  const classes = () => {
    if (read?.config !== config()) read = { config: config(), classes: classesOf(config()) }
    return read.classes
  }
  // The values that getters replace are left out: V8 makes an object slow (dictionary mode) when a getter replaces a value.
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
      return classes()
    },
    get otherClass() {
      return classes()[defaultClass] ?? otherClass
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
      // Each class has its own limit, which PendingAcquires enforces.
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

function classesOf(config: Config): Readonly<Record<string, ClassParameters>> {
  const { otherClass } = defaultParameters
  return Object.fromEntries(
    config.classes.map(({ name, max_wait = config.queue.max_wait }, rank) => {
      const limitS = max_wait / 1000
      return [name, { rank, limitS, ttftS: Math.max(otherClass.ttftS, limitS / limitPerGoal) }]
    }),
  )
}
