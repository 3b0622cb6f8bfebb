/** What a priority class promises. */
export interface ClassParameters {
  /** 0 goes first. Strict, except for ageing. */
  readonly rank: number
  /** Goal for the first token, in seconds: requests are ordered by it. */
  readonly ttftS: number
  /** A request is refused when its first token is predicted to take longer, in seconds. */
  readonly limitS: number
}

/** Parts of the algorithm. The bench switches each off to measure its worth (docs/routing.md#shape). */
export interface Abilities {
  /** Knows which models are in memory. Without it nodes load models by themselves. */
  readonly residency: boolean
  /** Counts how much a request slows the others. */
  readonly externality: boolean
  /** Learns how fast nodes are. */
  readonly speed: boolean
  /** Requests wait in the queue for a slot. Without it they wait on the node. */
  readonly lateBinding: boolean
  /** Orders the requests of a tenant by latest start. Without it by arrival. */
  readonly order: boolean
  /** Shares the fleet among tenants. Without it all requests belong to one tenant. */
  readonly fairness: boolean
  /** Reserves room for the others while one tenant asks for much more than its share. */
  readonly reservation: boolean
  /** Expects a prompt to be cached where its conversation ran. */
  readonly affinity: boolean
}

/** Every number of the scheduler (docs/routing.md). Seconds, tokens, bytes. */
export interface Parameters {
  readonly uses: Abilities
  readonly classes: Readonly<Record<string, ClassParameters>>
  /** For requests of any other class. */
  readonly otherClass: ClassParameters
  /** Share of each tenant; 1 for all others. */
  readonly tenantWeights: Readonly<Record<string, number>>
  readonly slots: {
    /** Before anything is learned. */
    readonly initial: number
    /** Consecutive completions at the limit without a wait on the node before the limit grows. */
    readonly evidence: number
    /** A wait on the node below the first means that the request had a slot; above the second that it had none. */
    readonly promptWaitS: number
    readonly longWaitS: number
    /** The limit does not grow for this long after it proved too high. */
    readonly holdS: number
  }
  readonly learning: {
    /** Bytes of a model read per second while decoding, on a node of speed 1. */
    readonly decodeBytesPerS: number
    /** Bytes x tokens per second of prefill, on a node of speed 1. */
    readonly prefillBytesPerS: number
    readonly diskBytesPerS: number
    /** How much one more stream slows the others: β of docs/routing.md#cost. */
    readonly slowdown: number
    /** Share of their speed that streams lose while their runner reads a prompt. */
    readonly stall: number
    /** The weight of a prior, and the memory of a mean, in samples. */
    readonly priorWeight: number
    readonly memory: number
    readonly speedMemory: number
    readonly diskMemory: number
    /** Expected output tokens before the first answer: the mean of the Azure conversation trace. */
    readonly outputTokens: number
    readonly outputsKept: number
    /** Answers after which a tenant's own outputs replace those of all tenants. */
    readonly outputsOfTenant: number
    /** Time constant of arrival rates. */
    readonly arrivalS: number
    /** How many times slower a partly offloaded runner is; 3–20 were seen. */
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
    /** An evicted model counts as missed for certain when one request is expected in so many seconds. */
    readonly missedS: number
    readonly replicas: number
    /** Costs that differ by less than this share are equal. */
    readonly tie: number
  }
  readonly queue: {
    /** Requests placed in one pass. */
    readonly window: number
    /** A request rises one class each time it has waited this long. */
    readonly ageingS: number
    /** A request is late after this share of its goal, and then steps back by so many seconds. */
    readonly late: number
    readonly stepBackS: number
    /** What a tenant is charged for an output token, in prompt tokens (VTC). */
    readonly outputWeight: number
    readonly tickS: number
  }
  readonly admission: {
    readonly maxQueued: number
    /** Predicted seconds of work that a tenant may have queued in one class; at least the wait limit of the class. */
    readonly tenantS: number
    /** No request waits longer. */
    readonly maxWaitS: number
    /** The lowest wait limit of a class. */
    readonly leastLimitS: number
    /** Consecutive starts while some request is late, after which the queue counts as standing. */
    readonly evidence: number
    readonly jitter: number
  }
  /** For tenants that ask for much more than their share while others ask as well (tenant-reservation.ts). */
  readonly reservation: {
    /** Time constant of a tenant's demand: short, because a flood takes all slots within seconds. */
    readonly demandS: number
    /** No tenant is held back until all together ask for so many times the capacity of the fleet. */
    readonly overload: number
    /** A tenant is held back when it asks for more than so many times its fair share of that. */
    readonly excess: number
    /** Largest share of a model's slots that is kept free for the others; less where they ask for less. */
    readonly reserve: number
    /** A tenant without requests for this long leaves its share to the others. */
    readonly activeS: number
    /** How often fair shares are computed. */
    readonly levelS: number
  }
  readonly swaps: {
    /** Swaps that one pass may begin for one model. */
    readonly perModel: number
    /** Limit for the victims' requests to end. */
    readonly drainS: number
    /** A load counts as hung after so many seconds, and after three times its expected duration. */
    readonly hangS: number
    /** Pause before a failed or cancelled swap is tried again on its node. */
    readonly pauseS: number
    /** Seconds after which a request claims a node that other instances keep busy; a load adds twice its expected duration. */
    readonly claimS: number
    /** For this long after a swap its result overrides facts, which may be older. */
    readonly settleS: number
    /** Ollama's default, per GPU. */
    readonly maxLoaded: number
    /**
     * Estimated memory of a model that was never seen in memory: so many times its file, plus a fixed number of bytes. If
     * it is too low, Ollama evicts by itself; if it is too high, one model too many is evicted, once.
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
  // From rehearsals: these values detect a noisy tenant within about 2 s. Slower detection loses most of the benefit. Faster
  // detection mistakes bursts for floods: at load 1.2 two points fewer of the requests keep their goal, below load 1 none.
  // Demand is overestimated by a third, because prompts count as uncached: hence an overload of two fleets.
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
