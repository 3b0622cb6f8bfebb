import type { IncomingMessage, ServerResponse } from 'node:http'
import { isLocalHost } from '../../shared/net/hosts.ts'
import { bodyKindOf, bytesOf, decoded } from './body-kind.ts'
import { endpointOf } from './endpoints/endpoint-of.ts'
import { Pacer } from './engine/pacer.ts'
import type { FaultPlan, Faults } from './faults.ts'
import { isRecord } from './json.ts'
import type { RequestEntry } from './ledger.ts'
import type { DecodedBody, Machine } from './machine.ts'
import { crossOriginHeaders, isCrossOrigin, isOriginAllowed } from './ollama-cors.ts'
import { NodeReply } from './reply.ts'

const calm: FaultPlan = {}
const unread: DecodedBody = { value: undefined }
const jsonType = 'application/json; charset=utf-8'

/** Serves one HTTP request from its head until its answer has ended or its client has left. */
export async function serve(
  machine: Machine,
  faults: Faults,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { ledger } = machine
  const leaving = new AbortController()
  const entry = ledger.arrive(arrivalOf(request))
  response.once('close', () => {
    if (response.writableFinished || entry.endedAt !== null || leaving.signal.aborted) return
    ledger.aborted(entry)
    leaving.abort(new Error('the client left'))
  })
  const body = await receive(request, entry)
  if (!body) return
  try {
    await answer(machine, faults, { request, response, entry, body, leaving })
  } catch (error) {
    // The signal aborts every wait when the client leaves or a fault cuts the answer. Any other error is a bug of the simulator.
    if (!leaving.signal.aborted) throw error
  }
  if (entry.abortedAt === null) ledger.ended(entry)
}

interface Visit {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly entry: RequestEntry
  readonly body: DecodedBody
  readonly leaving: AbortController
}

async function answer(machine: Machine, faults: Faults, visit: Visit): Promise<void> {
  const { request, response, entry, body, leaving } = visit
  const { signal } = leaving
  const { method, path, id, arrivedAt } = entry
  const isWelcome = isLocalHost(request.headers.host ?? '') && isOriginAllowed(request.headers)
  const plan = isWelcome ? faults.claim({ method, path, model: modelOf(entry.body) }, id) : calm
  const pacer = new Pacer(machine.clock, signal)
  const reply = new NodeReply(response, plan, pacer, (reason) => leaving.abort(reason))
  if (!isWelcome) return reply.whole(403, { type: '', text: '' })
  if (isCrossOrigin(request.headers)) {
    const isPreflight = method === 'OPTIONS'
    for (const [name, value] of Object.entries(crossOriginHeaders(request.headers.origin, isPreflight)))
      response.setHeader(name, value)
    if (isPreflight) return reply.whole(204, { type: '', text: '' })
  }
  if (plan.blackhole) return pacer.until(() => () => {})
  if (plan.answer) {
    const { status, body: text, headers } = plan.answer
    return reply.whole(status, { type: jsonType, text }, headers)
  }
  const { handler, tail } = endpointOf(method, path)
  const { headers } = request
  await handler(machine, { id, arrivedAt, body, headers, tail, upload: request, plan, pacer, reply, signal })
}

function arrivalOf(request: IncomingMessage) {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/'
  return { method: request.method ?? 'GET', path, rawHeaders: request.rawHeaders }
}

/** Reads and records the body, unless the route takes it as a stream; null when the client left while it sent it. */
async function receive(request: IncomingMessage, entry: RequestEntry): Promise<DecodedBody | null> {
  const kind = bodyKindOf(entry.path)
  if (kind === 'stream') return unread
  const rawBody = await bytesOf(request)
  if (!rawBody) return null
  entry.rawBody = rawBody
  const body = await decoded(rawBody, kind, request)
  entry.body = 'value' in body ? body.value : undefined
  return body
}

function modelOf(body: unknown): string {
  const model = isRecord(body) ? (body['model'] ?? body['name']) : ''
  return typeof model === 'string' ? model : ''
}
