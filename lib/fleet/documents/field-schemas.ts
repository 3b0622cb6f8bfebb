import { z } from 'zod'
import { parseDuration, writeDuration } from '../../shared/duration.ts'
import { isRange } from '../../shared/net/address.ts'

/** `10s`, `500ms`, `1h30m` in a document; milliseconds in memory. */
export const givenDuration = ({ min = 1, max = 7 * 86_400_000 } = {}) =>
  z.codec(
    z.string({ error: 'must be a duration with its unit, such as "30s"' }).meta({ format: 'duration' }),
    z.number(),
    {
      decode: (text, { issues }) => {
        const ms = parseDuration(text)
        if (ms !== null && ms >= min && ms <= max) return ms
        const message =
          ms === null
            ? 'must be a duration with its unit, such as "30s" or "1h30m"'
            : `must lie between ${min} ms and ${max} ms`
        issues.push({ code: 'custom', input: text, message })
        return z.NEVER
      },
      encode: writeDuration,
    },
  )

/** A duration that has a default. */
export const duration = (fallback: string, limits: { min?: number; max?: number } = {}) =>
  givenDuration(limits).prefault(fallback)

/** A glob over model names: `*` stands for any run of characters. */
export const modelGlob = z.string().min(1).max(200)

/** A range of IP addresses. */
export const cidr = z
  .string()
  .refine(isRange, 'must be a range of addresses with its prefix, such as "10.0.0.0/8" or "127.0.0.1/32"')

/** A glob over host names. */
export const hostGlob = z
  .string()
  .max(253)
  .regex(
    /^[\w.*-]+$|^[\da-f:]+$/i,
    'must be a host name without scheme and port, such as "llamero.example.com" or "*.example.com"',
  )

const copiesRule = 'must be a whole number from 1 to 1000, or "all"'

/** How many nodes get a model. */
export const copies = z.union(
  [z.int().min(1, copiesRule).max(1000, copiesRule), z.literal('all')],
  copiesRule,
)

/** Each choice of a node compares them. */
const maxLabels = 100

/** Key=value pairs that select nodes: every pair given must be among the node's labels. */
export const labels = z
  .record(z.string().min(1).max(63), z.string().max(200))
  .refine((pairs) => Object.keys(pairs).length <= maxLabels, `must be at most ${maxLabels} labels`)
export type Labels = Readonly<Record<string, string>>

/** Whether a node with `own` labels is selected by `wanted`. */
export function matchesLabels(wanted: Labels, own: Labels): boolean {
  for (const key in wanted) if (own[key] !== wanted[key]) return false
  return true
}
