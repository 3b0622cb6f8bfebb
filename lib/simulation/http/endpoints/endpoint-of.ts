import { anthropicErrors, messagesWriter } from '../dialects/anthropic.ts'
import { readMessages } from '../dialects/anthropic-request.ts'
import type { ErrorStyle } from '../dialects/dialect.ts'
import { chatWriter, generateWriter, nativeErrors } from '../dialects/native.ts'
import { chatCompletionWriter, completionWriter, openaiErrors } from '../dialects/openai.ts'
import { readChat, readChatCompletion, readCompletion, readGenerate } from '../dialects/request.ts'
import { responsesWriter } from '../dialects/responses.ts'
import { readResponses } from '../dialects/responses-request.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal, RunnerFailure } from '../refusal.ts'
import { create, readCreate } from './create.ts'
import { decide, hasDecisions, readDecision } from './decision.ts'
import {
  embed,
  embeddingList,
  embeddings,
  readEmbed,
  readEmbeddingList,
  readEmbeddings,
} from './embedding.ts'
import { cloudModel, cloudStatus, isAway, recommendations, signOut, unauthorized } from './identity.ts'
import { type GenerateEndpoint, infer } from './inference.ts'
import { copy, readCopy, readDelete, remove } from './management.ts'
import { heartbeat, modelList, modelOf, ps, readShow, show, tags, version } from './model-lists.ts'
import { readTranscription, type TranscriptionRequest, transcriptionEndpoint } from './transcription.ts'
import { pull, push, readPull, readPush } from './transfer.ts'
import { headBlob, postBlob } from './upload.ts'

type Handler = (machine: Machine, exchange: NodeExchange) => Promise<void>
type Methods = Readonly<Record<string, Handler>>

const chat: GenerateEndpoint = { wording: 'chat', writer: chatWriter }
const generate: GenerateEndpoint = { wording: 'generate', writer: generateWriter }
const chatCompletion: GenerateEndpoint = { wording: 'chat', writer: chatCompletionWriter }
const completion: GenerateEndpoint = { wording: 'generate', writer: completionWriter }
const responses: GenerateEndpoint = { wording: 'chat', writer: responsesWriter }
const messages: GenerateEndpoint = { wording: 'chat', writer: messagesWriter, relaxedThinking: true }

/** Every path of the node, with its methods in the order that a 405 lists them. */
const endpoints: Readonly<Record<string, Methods>> = {
  '/': { HEAD: heartbeat, GET: heartbeat },
  '/api/version': { HEAD: version, GET: version },
  '/api/tags': { HEAD: tags, GET: tags },
  '/api/ps': { GET: ps },
  '/api/status': { GET: cloudStatus },
  '/api/pull': { POST: taking(readPull, pull, nativeErrors) },
  '/api/push': { POST: taking(readPush, push, nativeErrors) },
  '/api/create': { POST: taking(readCreate, create, nativeErrors) },
  '/api/copy': { POST: taking(readCopy, copy, nativeErrors) },
  '/api/delete': { DELETE: taking(readDelete, remove, nativeErrors) },
  '/api/me': { POST: unauthorized },
  '/api/signout': { POST: signOut },
  '/api/experimental/web_search': { POST: unauthorized },
  '/api/experimental/web_fetch': { POST: unauthorized },
  '/api/experimental/model-recommendations': { GET: recommendations },
  '/api/show': { POST: taking(readShow, local(show, 'remote model details are unavailable'), nativeErrors) },
  '/api/generate': { POST: generating(readGenerate, generate, nativeErrors) },
  '/api/chat': { POST: generating(readChat, chat, nativeErrors) },
  '/api/embed': { POST: taking(readEmbed, local(embed), nativeErrors) },
  '/api/embeddings': { POST: taking(readEmbeddings, local(embeddings), nativeErrors) },
  '/v1/chat/completions': { POST: generating(readChatCompletion, chatCompletion, openaiErrors) },
  '/v1/completions': { POST: generating(readCompletion, completion, openaiErrors) },
  '/v1/embeddings': { POST: taking(readEmbeddingList, local(embeddingList), openaiErrors) },
  '/v1/responses': { POST: generating(readResponses, responses, openaiErrors) },
  '/v1/messages': { POST: generating(readMessages, messages, anthropicErrors) },
  '/v1/systemone': { POST: where(hasDecisions, taking(readDecision, local(decide), nativeErrors)) },
  '/v1/models': { GET: modelList },
  '/v1/audio/transcriptions': { POST: taking(readTranscription, transcribe, openaiErrors) },
}

/** Paths that end in a parameter without a slash. */
const parameterised: Readonly<Record<string, Methods>> = {
  '/api/blobs/': { POST: postBlob, HEAD: headBlob },
  '/api/user/keys/': { DELETE: signOut },
  '/v1/models/': { GET: modelOf },
}

interface MatchedEndpoint {
  readonly handler: Handler
  /** The path's parameter. */
  readonly tail: string
}

/** The handler of `method` on `path`; it may be that of a 404 or a 405. */
export function endpointOf(method: string, path: string): MatchedEndpoint {
  const { methods, tail } = matched(path)
  const slashless = path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : null
  if (!methods && slashless && matched(slashless).methods?.[method])
    return { handler: redirected(method, slashless), tail }
  if (!methods) return { handler: plain(404, '404 page not found'), tail }
  const allow = Object.keys(methods).join(', ')
  return { handler: methods[method] ?? plain(405, '405 method not allowed', { Allow: allow }), tail }
}

function matched(path: string): { readonly methods: Methods | undefined; readonly tail: string } {
  if (Object.hasOwn(endpoints, path)) return { methods: endpoints[path], tail: '' }
  const end = path.lastIndexOf('/') + 1
  const prefix = path.slice(0, end)
  const tail = unescaped(path.slice(end))
  const isParameter = tail !== '' && !tail.includes('/') && Object.hasOwn(parameterised, prefix)
  return { methods: isParameter ? parameterised[prefix] : undefined, tail }
}

/** Empty when the escapes are wrong. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return ''
  }
}

function plain(status: number, text: string, headers: Readonly<Record<string, string>> = {}): Handler {
  return (_machine, { reply }) => reply.whole(status, { type: 'text/plain', text }, headers)
}

/** A path that only some versions of Ollama have. */
function where(isThere: (machine: Machine) => boolean, handler: Handler): Handler {
  return (machine, exchange) =>
    (isThere(machine) ? handler : plain(404, '404 page not found'))(machine, exchange)
}

/** gin's RedirectTrailingSlash: 307 keeps the method of a request with a body. */
function redirected(method: string, location: string): Handler {
  const isRead = method === 'GET' || method === 'HEAD'
  const page = `<a href="${location}">Moved Permanently</a>.\n\n`
  const body = {
    type: isRead ? 'text/html; charset=utf-8' : '',
    text: method === 'GET' ? page : '',
  }
  return (_machine, { reply }) => reply.whole(isRead ? 301 : 307, body, { Location: location })
}

function transcribe(machine: Machine, exchange: NodeExchange, ask: TranscriptionRequest): Promise<void> {
  return infer(machine, exchange, ask, transcriptionEndpoint(ask))
}

function generating(
  read: (body: unknown) => Parameters<typeof infer>[2],
  endpoint: GenerateEndpoint,
  errors: ErrorStyle,
) {
  return taking(
    read,
    local((machine, exchange, ask) => infer(machine, exchange, ask, endpoint)),
    errors,
  )
}

type Run<T> = (machine: Machine, exchange: NodeExchange, ask: T) => Promise<void>

/** Refuses a model of ollama.com without a copy on the node. */
function local<T extends { readonly model: string }>(
  run: Run<T>,
  what = 'remote model is unavailable',
): Run<T> {
  return (machine, exchange, ask) =>
    isAway(machine, ask.model) ? cloudModel(machine, exchange, what) : run(machine, exchange, ask)
}

/** A handler of a request with a body: `read` decodes the body, `run` answers; either may refuse. */
function taking<T>(read: (body: unknown) => T, run: Run<T>, errors: ErrorStyle): Handler {
  return async (machine, exchange) => {
    const { body, reply } = exchange
    let ask: T
    try {
      if ('refusal' in body) throw body.refusal
      ask = read(body.value)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return reply.whole(error.status, errors.early(error.status, error.message))
    }
    try {
      await run(machine, exchange, ask)
    } catch (error) {
      if (!(error instanceof Refusal) || reply.begun) throw error
      const streamed = error instanceof RunnerFailure && isStream(ask)
      await reply.whole(
        error.status,
        errors.late(error.status, error.message, streamed),
        waitFor(error, exchange),
      )
    }
  }
}

/** Real nodes send no Retry-After with a full queue; a fault may. */
function waitFor({ status }: Refusal, { plan }: NodeExchange): Readonly<Record<string, string>> {
  if (status !== 503 || plan.busy?.retryAfter == null) return {}
  return { 'Retry-After': String(plan.busy.retryAfter) }
}

function isStream(ask: unknown): boolean {
  return typeof ask === 'object' && ask !== null && 'stream' in ask && ask.stream === true
}
