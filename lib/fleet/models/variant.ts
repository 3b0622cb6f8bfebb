/** Another value of one of these needs another runner (docs/ollama.md#requests). */
export const loadOptions = [
  'draft_num_predict',
  'main_gpu',
  'num_batch',
  'num_ctx',
  'num_gpu',
  'num_thread',
  'use_mmap',
] as const

/** The load-time options of a runner. */
export type LoadOptions = Readonly<Record<string, number | boolean>>

/** The canonical text of load-time options: equal for requests that one runner can serve; "" for none. */
export function writeVariant(options: LoadOptions): string {
  const names = Object.keys(options).sort()
  return names.length === 0
    ? ''
    : JSON.stringify(Object.fromEntries(names.map((name) => [name, options[name]])))
}

/** The options of a text that `writeVariant` wrote. */
export function readVariant(variant: string): LoadOptions {
  return variant === '' ? {} : (JSON.parse(variant) as LoadOptions)
}

/** The variant of requests that set nothing but `num_ctx`. */
export function contextVariant(tokens: number): string {
  return writeVariant({ num_ctx: tokens })
}
