/** How much of everything one run does. */
export interface Size {
  /** Every contestant has its turn in each; a figure is the median of them. */
  readonly rounds: number
  /** Small requests a round, over 32 connections. */
  readonly requests: number
  /** Of a round, on each of 20 streams. */
  readonly chunks: number
  /** Streamed requests a round, one after the other, for the time to first token. */
  readonly firstTokens: number
  /** Open streams whose memory is measured; as many again are opened before. */
  readonly idleStreams: number
  /** Of the scheduler's decisions. */
  readonly samples: number
}

/** About three minutes. */
export const fullSize: Size = {
  rounds: 3,
  requests: 3000,
  chunks: 500,
  firstTokens: 300,
  idleStreams: 500,
  samples: 300,
}

/** About 40 seconds: to see that a change did no great harm. */
export const quickSize: Size = {
  rounds: 1,
  requests: 1500,
  chunks: 250,
  firstTokens: 150,
  idleStreams: 200,
  samples: 100,
}
