/**
 * What the scheduler needs to know of the breakers: whether a node takes a request now, and that one was sent.
 * The gateway owns the breakers; this is the hole they are seen through.
 */
export interface Gate {
  /** False while the node's breaker is open, or half-open with its one trial request under way. */
  admits(node: string): boolean
}
