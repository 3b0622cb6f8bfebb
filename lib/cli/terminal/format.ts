import { formatDuration } from '../../shared/duration.ts'

const units = ['B', 'KB', 'MB', 'GB', 'TB'] as const

/** Bytes in Ollama's format: decimal units, one digit after the point below ten. `274 MB`, `3.3 GB`. */
export function bytes(count: number): string {
  const power = count < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(count) / 3))
  const value = count / 1000 ** power
  return `${value >= 10 || Number.isInteger(value) ? Math.floor(value) : value.toFixed(1)} ${units[power]}`
}

/** The age of an ISO date: `12d`; "-" without a date. */
export function age(iso: string | null, now: Date): string {
  const at = Date.parse(iso ?? '')
  return Number.isNaN(at) ? '-' : formatDuration(Math.max(0, now.getTime() - at))
}

/** When a loaded model leaves memory, in Ollama's words. */
export function until(iso: string, now: Date): string {
  const ms = Date.parse(iso) - now.getTime()
  if (Number.isNaN(ms)) return '-'
  if (ms <= 0) return 'Stopping...'
  // Ollama reports keep_alive -1 as a date centuries away.
  return ms > 100 * 365 * 86_400_000 ? 'Forever' : `${formatDuration(ms)} from now`
}

/** The memory that holds a loaded model, in Ollama's words: `100% GPU`, `100% CPU`, `40%/60% CPU/GPU`. */
export function processor(size: number, sizeVram: number): string {
  if (sizeVram === 0) return '100% CPU'
  if (sizeVram >= size) return '100% GPU'
  const cpu = Math.round(((size - sizeVram) / size) * 100)
  return `${cpu}%/${100 - cpu}% CPU/GPU`
}

/** The short form of a digest that Ollama shows as a model's id. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, '').slice(0, 12)
}

/** `1 request`, `2 requests`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`
}

/** `a=1,b=2`. */
export function pairs(record: Readonly<Record<string, unknown>>): string {
  return Object.entries(record)
    .map(([key, value]) => `${key}=${value}`)
    .join(',')
}
