import { type ModelName, parseName } from '../disk/model-name.ts'
import { Fields } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal } from '../refusal.ts'
import { dropUnused } from './transfer.ts'

interface CopyRequest {
  readonly source: string
  readonly destination: string
}

/** The body of `/api/delete`. @throws Refusal 400. */
export function readDelete(body: unknown): string {
  const fields = new Fields(body, 'DeleteRequest')
  return fields.text('model') || fields.text('name')
}

/** The body of `/api/copy`. @throws Refusal 400. */
export function readCopy(body: unknown): CopyRequest {
  const fields = new Fields(body, 'CopyRequest')
  return { source: fields.text('source'), destination: fields.text('destination') }
}

/** `/api/delete`: a loaded model stays loaded (docs/ollama.md#scheduling). */
export function remove(machine: Machine, { reply }: NodeExchange, text: string): Promise<void> {
  const name = parseName(text)
  if (!name) throw new Refusal(400, `name ${JSON.stringify(text)} is invalid`)
  const manifest = machine.shelf.get(name)
  if (!manifest) throw new Refusal(404, `model '${text}' not found`)
  machine.shelf.remove(name)
  dropUnused(machine, manifest.model)
  return reply.whole(200, { type: '', text: '' })
}

/** `/api/copy`: the same blobs and digest under a second name. */
export function copy(machine: Machine, { reply }: NodeExchange, ask: CopyRequest): Promise<void> {
  const { shelf, clock } = machine
  const source = nameIn(ask, 'source')
  const destination = nameIn(ask, 'destination')
  const original = shelf.get(source)
  if (!original) throw new Refusal(404, `model ${JSON.stringify(ask.source)} not found`)
  const replaced = shelf.get(destination)
  shelf.put({ ...original.model, name: destination.short }, clock.date())
  if (replaced) dropUnused(machine, replaced.model)
  return reply.whole(200, { type: '', text: '' })
}

function nameIn(ask: CopyRequest, field: keyof CopyRequest): ModelName {
  const name = parseName(ask[field])
  if (!name) throw new Refusal(400, `${field} ${JSON.stringify(ask[field])} is invalid`)
  return name
}
