import type { PromptRules } from '../ollama-model/prompt-cache.ts'

/** A prompt of a rehearsal: no text, only the conversation that it continues and how long it is. */
export interface ConversationPrompt {
  readonly conversation: number
  /** Of the prompt, those that were there before in its conversation. */
  readonly reusableTokens: number
  /** Of the prompt, and in a slot also of the answer. */
  readonly tokens: number
}

/** A prompt finds in a cache what its own conversation left there. */
export const conversationPrompts: PromptRules<ConversationPrompt> = {
  tokensOf: ({ tokens }) => tokens,
  commonTokens: (known, prompt) =>
    known.conversation === prompt.conversation ? Math.min(prompt.reusableTokens, known.tokens) : 0,
  continues: (prompt, known) => prompt.conversation === known.conversation,
}
