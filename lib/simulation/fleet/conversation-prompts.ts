import type { PromptRules } from '../ollama-model/prompt-cache.ts'

/** A prompt of a rehearsal: no text, only the conversation that it continues and how long it is. */
export interface ConversationPrompt {
  readonly conversation: number
  /** Tokens of the prompt that its conversation had before. */
  readonly reusableTokens: number
  /** Tokens of the prompt; in a slot also those of the answer. */
  readonly tokens: number
}

/** A cache helps a prompt only with what the same conversation left there. */
export const conversationPrompts: PromptRules<ConversationPrompt> = {
  tokensOf: ({ tokens }) => tokens,
  commonTokens: (known, prompt) =>
    known.conversation === prompt.conversation ? Math.min(prompt.reusableTokens, known.tokens) : 0,
  continues: (prompt, known) => prompt.conversation === known.conversation,
}
