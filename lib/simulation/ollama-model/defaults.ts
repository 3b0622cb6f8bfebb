/** Ollama's settings without configuration (docs/ollama.md#scheduling). Times are seconds. */
export const ollamaDefaults = {
  /** `OLLAMA_MAX_QUEUE`. */
  maxQueue: 512,
  /** `OLLAMA_KEEP_ALIVE`. */
  keepAliveS: 300,
  /** `OLLAMA_MAX_LOADED_MODELS`, for each GPU. */
  modelsPerGpu: 3,
  /** From the end of a runner until a discrete GPU has its memory back. */
  recoveryS: 0.8,
}
