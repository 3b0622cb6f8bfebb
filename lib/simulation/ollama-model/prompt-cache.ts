/** What a simulation knows of prompts: texts behind sockets, numbers of tokens in a rehearsal. */
export interface PromptRules<Prompt> {
  tokensOf(known: Prompt): number
  /** Tokens at the start of `prompt` that `known` begins with too. */
  commonTokens(known: Prompt, prompt: Prompt): number
  /** Whether `prompt` begins with all of `known`, and so takes its place. */
  continues(prompt: Prompt, known: Prompt): boolean
}

export interface HostMemory {
  readonly tokens: number
  readonly prompts: number
}

/**
 * The host memory of a runner. It keeps prompts that slots had to give up; the prompt that was kept first goes first
 * (docs/routing.md#what-ollama-does).
 */
export class PromptCache<Prompt> {
  readonly #rules: PromptRules<Prompt>
  readonly #most: HostMemory
  #known: Prompt[] = []
  #tokens = 0

  constructor(rules: PromptRules<Prompt>, most: HostMemory) {
    this.#rules = rules
    this.#most = most
  }

  cachedTokens(prompt: Prompt): number {
    return this.#known.reduce((best, known) => Math.max(best, this.#rules.commonTokens(known, prompt)), 0)
  }

  /** Keeps a prompt in place of those that it continues. */
  keep(prompt: Prompt): void {
    const tokens = this.#rules.tokensOf(prompt)
    if (tokens > this.#most.tokens) return
    this.#known = [...this.#known.filter((known) => !this.#rules.continues(prompt, known)), prompt]
    this.#tokens = this.#known.reduce((sum, known) => sum + this.#rules.tokensOf(known), 0)
    while (this.#tokens > this.#most.tokens || this.#known.length > this.#most.prompts) this.#dropOldest()
  }

  #dropOldest(): void {
    const [oldest] = this.#known.splice(0, 1)
    if (oldest !== undefined) this.#tokens -= this.#rules.tokensOf(oldest)
  }
}
