/** What a priority class promises. */
export interface ClassRule {
  /** 0 goes first; strict, but for ageing. */
  readonly rank: number
  /** Seconds to the first token that its callers expect: the goal that requests are ordered by. */
  readonly ttftS: number
  /** Nobody is let in whose first token is predicted to take longer, in seconds. */
  readonly limitS: number
}

/** What the algorithm knows or does; each can be taken away, to see what it is worth (docs/routing.md#shape). */
export interface Abilities {
  /** Knows what is in memory; without, a node loads by itself what it is sent. */
  readonly residency: boolean
  /** Counts what a request does to the others. */
  readonly externality: boolean
  /** Learns how fast nodes are. */
  readonly speed: boolean
  /** Waits here for a slot; without, on the node. */
  readonly lateBinding: boolean
  /** Orders by latest start inside a tenant; without, by arrival. */
  readonly order: boolean
  /** Shares among tenants; without, all are one. */
  readonly fairness: boolean
  /** Keeps room for the others while one tenant asks for much more than its share. */
  readonly reservation: boolean
  /** Expects prompts to be cached where their conversation was. */
  readonly affinity: boolean
}

/** Every number of the scheduler (docs/routing.md). Seconds, tokens, bytes. */
export interface Parameters {
  readonly uses: Abilities
  readonly classes: Readonly<Record<string, ClassRule>>
  /** Of requests whose class is not among them. */
  readonly otherClass: ClassRule
  /** Share of tenants; 1 for those that are not among them. */
  readonly tenantWeights: Readonly<Record<string, number>>
  readonly slots: {
    /** Before anything is learned. */
    readonly initial: number
    /** Completions at the limit that must all have been prompt before it grows. */
    readonly evidence: number
    /** Wait on the node below which it had a slot, and above which it had none. */
    readonly promptWaitS: number
    readonly longWaitS: number
    /** No growth for so long after a limit proved too high. */
    readonly holdS: number
  }
  readonly learning: {
    /** Bytes of a model read per second while decoding, on a node of speed 1. */
    readonly decodeBytesPerS: number
    /** Bytes x tokens per second of prefill, on a node of speed 1. */
    readonly prefillBytesPerS: number
    readonly diskBytesPerS: number
    /** β of docs/routing.md#cost: how much one more stream slows the others. */
    readonly slowdown: number
    /** By which share streams are slower while their runner reads a prompt. */
    readonly stall: number
    /** Samples that a prior counts as, and that a mean remembers at most. */
    readonly priorWeight: number
    readonly memory: number
    readonly speedMemory: number
    readonly diskMemory: number
    /** Output tokens while none were seen: the mean of the Azure conversation trace. */
    readonly outputTokens: number
    readonly outputsKept: number
    /** So many make a tenant's own outputs a better guess than everybody's. */
    readonly outputsOfTenant: number
    /** Time constant of arrival rates. */
    readonly arrivalS: number
    /** A runner partly outside of the GPU is slower by so much; 3-20 are seen. */
    readonly offloadSlowdown: number
  }
  /** Weights of docs/routing.md#cost. */
  readonly cost: {
    readonly decode: number
    readonly externality: number
    readonly streamSlowdown: number
    readonly prefillStall: number
    readonly stalledStreams: number
    readonly timeSharing: number
    /** Seconds of arrivals that make an evicted model certain to be missed. */
    readonly missedS: number
    readonly replicas: number
    /** Costs that differ by less are equal. */
    readonly tie: number
  }
  readonly queue: {
    /** Requests placed in one pass. */
    readonly window: number
    /** A request rises one class after so long. */
    readonly ageingS: number
    /** Share of its goal after which a request is late, and how far it then steps back. */
    readonly late: number
    readonly stepBackS: number
    /** Weight of an output token against a prompt token in what a tenant is charged (VTC). */
    readonly outputWeight: number
    readonly tickS: number
  }
  readonly admission: {
    readonly maxQueued: number
    /** Predicted work that a tenant may have waiting in one class, or as long as that may wait. */
    readonly tenantS: number
    /** Nobody waits longer. */
    readonly maxWaitS: number
    /** No class has a lower limit. */
    readonly leastLimitS: number
    /** Requests in a row that start while somebody is late, until the queue counts as too long. */
    readonly evidence: number
    readonly jitter: number
  }
  /** Of tenants that ask for much more than their share, while others ask as well (tenant-reservation.ts). */
  readonly reservation: {
    /** Time constant of what a tenant asks for: short, as slots are all taken within seconds. */
    readonly demandS: number
    /** Nobody is held back until all together ask for so many times what the fleet can serve. */
    readonly overload: number
    /** Nor who asks for less than so many times the fair share of that. */
    readonly excess: number
    /** Share of a model's slots that is kept free for the others, at most: less where they ask for less. */
    readonly reserve: number
    /** Who has asked for nothing for so long leaves the share to the others. */
    readonly activeS: number
    /** How old a share may be. */
    readonly levelS: number
  }
  readonly swaps: {
    /** Begun in one pass for one model. */
    readonly perModel: number
    /** For victims to run dry. */
    readonly drainS: number
    /** A load is not counted on after so many seconds, and three times as long as it should take. */
    readonly hangS: number
    /** After a swap that came to nothing, until the same is tried again on that node. */
    readonly pauseS: number
    /** A request that waits for so long for a node that other instances keep busy claims it; a load, so long after twice its expected time. */
    readonly claimS: number
    /** After a swap its result is believed more than facts, which may have been read before it. */
    readonly settleS: number
    /** Ollama's default, per GPU. */
    readonly maxLoaded: number
    /**
     * Memory of a model that was never seen in one: so many times its file, and bytes for the rest. A guess too low makes
     * Ollama evict by itself; one too high costs a model more than had to go, once.
     */
    readonly memoryPerByte: number
    readonly memoryBesides: number
  }
  readonly prefixes: number
}

export const defaultParameters: Parameters = {
  uses: {
    residency: true,
    externality: true,
    speed: true,
    lateBinding: true,
    order: true,
    fairness: true,
    reservation: true,
    affinity: true,
  },
  classes: {},
  otherClass: { rank: 0, ttftS: 5, limitS: 10 },
  tenantWeights: {},
  slots: { initial: 1, evidence: 8, promptWaitS: 0.05, longWaitS: 0.25, holdS: 600 },
  learning: {
    // The first two are estimates: a card of 400 GB/s at three quarters, and 1,500 tokens/s for 5 GB.
    decodeBytesPerS: 300e9,
    prefillBytesPerS: 7.5e12,
    diskBytesPerS: 1.5e9,
    slowdown: 0.15,
    stall: 0.65,
    priorWeight: 3,
    memory: 40,
    speedMemory: 30,
    diskMemory: 8,
    outputTokens: 211,
    outputsKept: 400,
    outputsOfTenant: 30,
    arrivalS: 90,
    offloadSlowdown: 8,
  },
  cost: {
    decode: 0.25,
    externality: 0.8,
    streamSlowdown: 0.6,
    prefillStall: 0.3,
    stalledStreams: 4,
    timeSharing: 0.25,
    missedS: 45,
    replicas: 1.2,
    tie: 0.02,
  },
  queue: { window: 48, ageingS: 30, late: 0.9, stepBackS: 30, outputWeight: 2, tickS: 0.5 },
  admission: {
    maxQueued: 1000,
    tenantS: 60,
    maxWaitS: 60,
    // With 10 s instead of 20, four points more keep their goal at load 1.2 (test/bench/RESULTS.md).
    leastLimitS: 10,
    evidence: 30,
    jitter: 0.2,
  },
  // By rehearsal: a noisy tenant is found out within about 2 s. Finding it later costs the others most of what this is for; sooner,
  // it takes bursts for noise: so at load 1.2 two points fewer keep their goal, and none below 1. What is asked for is estimated
  // a third too high, since prompts count as though nothing were cached: hence an overload of two fleets.
  reservation: { demandS: 3, overload: 2, excess: 1.5, reserve: 0.5, activeS: 120, levelS: 0.25 },
  swaps: {
    perModel: 2,
    drainS: 60,
    hangS: 15,
    pauseS: 30,
    claimS: 5,
    settleS: 5,
    maxLoaded: 3,
    memoryPerByte: 1.2,
    memoryBesides: 1.5e9,
  },
  prefixes: 100_000,
}
