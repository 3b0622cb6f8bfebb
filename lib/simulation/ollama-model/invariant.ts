/** Throws when the simulation breaks a promise of its own: a test that relied on the promise must fail. */
export function invariant(holds: boolean, text: string): asserts holds {
  if (!holds) throw new Error(`the simulated Ollama broke an invariant: ${text}`)
}
