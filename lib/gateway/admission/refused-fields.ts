import type { CallerPolicy } from '../../fleet/caller-options.ts'
import { ProxyError } from '../../shared/errors.ts'
import { type Field, type Scanned, valueText } from '../body/json-fields.ts'

/** The fields that an operator may refuse, each with its setting in `callers` and what its caller should do. */
const refusable = [
  ['raw', 'raw', "prompts go through the model's template; leave the field out"],
  ['template', 'template', "the model's own template is used; leave the field out"],
  ['_debug_render_only', 'debug_render_only', "it shows the model's system prompt; leave the field out"],
] as const

/** @throws ProxyError `option_refused` for the first field that the operator refuses. */
export function refuseFields(bytes: Buffer, { fields }: Scanned, callers: CallerPolicy): void {
  for (const [name, setting, reason] of refusable) {
    const field = fields.get(name)
    if (field && callers[setting] === 'refuse' && !isOff(bytes, field))
      throw new ProxyError('option_refused', { field: name, reason })
  }
}

/** `false`, `null` and `""` have no effect. */
function isOff(bytes: Buffer, field: Field): boolean {
  return field.end - field.start <= 5 && ['false', 'null', '""'].includes(valueText(bytes, field))
}
