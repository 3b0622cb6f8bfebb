import type { IncomingHttpHeaders } from 'node:http'
import type { Prefix } from '../../fleet/request-spec.ts'
import type { PromptPiece, PromptPieces } from '../body/prompt-pieces.ts'
import { chainBytes, chainText } from './prefix-hash.ts'

/** Of JSON in most languages; Ollama's own estimate (docs/ollama.md#answers). */
const bytesPerToken = 4
/** As the simulated node counts them. */
const tokensPerImage = 768
/** Of a long conversation the last so many messages are told: the next request will have most of them. */
const prefixesTold = 64

/** What is read before the conversation, wherever it stands in the body, and what the conversation may be called. */
const openings = ['tools', 'system', 'instructions']
const conversations = ['messages', 'input', 'prompt', 'images']

/** Whose prompt it is. */
interface Origin {
  readonly tenant: string
  readonly model: string
  /** See `sessionOf`. */
  readonly session: string | null
}

/** Tokens that a body makes a model read, about. */
export function promptTokens(pieces: PromptPieces): number {
  let tokens = 0
  for (const piece of pieces.of(openings)) tokens += tokensOf(piece)
  for (const piece of pieces.of(conversations)) tokens += tokensOf(piece)
  return tokens
}

/**
 * What a runner may have read of this prompt before: the opening, then one prefix per message, each hash made of all
 * before it.
 *
 * Other tenants' prefixes are others, or the time and `x-llamero-reason` of an answer would tell whether somebody else has
 * asked the same. Within a session the opening is known by its content, so that one system prompt is found wherever it
 * was read and a session's side tasks, such as finding a title, are not taken for it; what follows is known by its number:
 * whoever names a session vouches for it, and is found again however the messages are written.
 */
export function prefixesOf(bytes: Uint8Array, pieces: PromptPieces, origin: Origin): Prefix[] {
  const { tenant, model, session } = origin
  const opening = pieces.of(openings)
  const messages = pieces.of(conversations)
  const byNumber = session === null ? null : Buffer.from(session)
  // The first message is an opening where others follow: most often it is the system's.
  const openingMessages = messages.length > 1 ? 1 : 0
  const all = [...opening, ...messages]
  let hash = chainText(chainText(0, tenant), model)
  let tokens = 0
  const prefixes: Prefix[] = []
  for (const [number, piece] of all.entries()) {
    const isVouchedFor = byNumber !== null && number >= opening.length + openingMessages
    hash = isVouchedFor ? chainBytes(hash, byNumber) : chainBytes(hash, bytes, piece.start, piece.end)
    tokens += tokensOf(piece)
    if (number >= all.length - prefixesTold) prefixes.push({ hash, tokens })
  }
  return prefixes
}

/** A conversation that its caller names: our own header, or that of Open WebUI. */
export function sessionOf(headers: IncomingHttpHeaders): string | null {
  const named = headers['x-llamero-session'] ?? headers['x-openwebui-chat-id']
  return typeof named === 'string' && named !== '' ? named : null
}

function tokensOf({ start, end, images, imageBytes }: PromptPiece): number {
  return Math.ceil((end - start - imageBytes) / bytesPerToken) + images * tokensPerImage
}
