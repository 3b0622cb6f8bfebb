/**
 * How long what llamero loads stays in memory. Longer than Ollama's own 5 min: where it makes room for others, it takes what
 * stays for the shortest (sheet routing.md §0.3). Requests to what is in memory leave it at that, and must say nothing: a
 * duration given to a runner that Ollama is evicting hangs every load on its node (sheet ollama-api.md §2.4, ollama#17408).
 */
export const keepAlive = '1h'
