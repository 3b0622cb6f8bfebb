/** How much of everything one run does. */
export interface Size {
  /** Every contestant has its turn in each; a figure is the median of them. */
  readonly rounds: number
  /** Small requests before the rounds: until the compiler is done with the code. After 20,000 it still takes a twentieth. */
  readonly warmUp: number
  /** Small requests a turn. */
  readonly requests: number
  /** Of a round, on each stream. */
  readonly chunks: number
  /** Streamed requests a round, one after the other, for the time to first token. */
  readonly firstTokens: number
  /** At most the 1024 slots of a node. */
  readonly idleStreams: number
  /** Of the scheduler, a round. */
  readonly decisions: number
}

/** About four and a half minutes. Rounds are many and short, for the machine's noise comes and goes within seconds. */
export const fullSize: Size = {
  rounds: 7,
  warmUp: 60_000,
  requests: 500,
  chunks: 300,
  firstTokens: 150,
  idleStreams: 1000,
  decisions: 2000,
}

/** Under two minutes: to see that a change did no great harm. */
export const quickSize: Size = {
  rounds: 3,
  warmUp: 20_000,
  requests: 250,
  chunks: 200,
  firstTokens: 60,
  idleStreams: 500,
  decisions: 1000,
}
