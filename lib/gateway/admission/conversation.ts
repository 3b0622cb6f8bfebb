import type { IncomingHttpHeaders } from 'node:http'
import type { Prefix } from '../../fleet/request-spec.ts'
import type { PromptPiece, PromptPieces } from '../body/prompt-pieces.ts'
import { chainBytes, chainText } from './prefix-hash.ts'

/** JSON of most languages; Ollama's own estimate (docs/ollama.md#answers). */
const bytesPerToken = 4
/** As the simulated node counts images. */
const tokensPerImage = 768
/** Prefixes per request: the last messages of a long conversation, most of which the next request has too. */
const prefixesTold = 64

/**
 * Fields that a model reads before the conversation, wherever they are in the body, and the fields of the
 * conversation.
 */
const openings = ['tools', 'system', 'instructions']
const conversations = ['messages', 'input', 'prompt', 'images']

/** The tenant, model and session of a prompt. */
interface Origin {
  readonly tenant: string
  readonly model: string
  /** See `sessionOf`. */
  readonly session: string | null
}

/** Estimated tokens of a prompt. */
export function promptTokens(pieces: PromptPieces): number {
  let tokens = 0
  for (const piece of pieces.of(openings)) tokens += tokensOf(piece)
  for (const piece of pieces.of(conversations)) tokens += tokensOf(piece)
  return tokens
}

/**
 * The prefixes of a prompt that a runner may have cached: the opening, then one prefix per message, each hash made of
 * all before it.
 *
 * Hashes include the tenant: otherwise the time and `x-llamero-reason` of a response would show whether another
 * tenant sent the same prompt. Within a session the opening is identified by its content, so that one system prompt
 * is found on any runner, and side requests of the session, such as for a title, have another opening. Later messages
 * are identified by their number: the session header says that they belong together, however they are written.
 */
export function prefixesOf(bytes: Uint8Array, pieces: PromptPieces, origin: Origin): Prefix[] {
  const { tenant, model, session } = origin
  const opening = pieces.of(openings)
  const messages = pieces.of(conversations)
  const byNumber = session === null ? null : Buffer.from(session)
  // The first of several messages counts as opening: most often it is the system prompt.
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

/** The session that the caller names: in the header of llamero, or in that of Open WebUI. */
export function sessionOf(headers: IncomingHttpHeaders): string | null {
  const named = headers['x-llamero-session'] ?? headers['x-openwebui-chat-id']
  return typeof named === 'string' && named !== '' ? named : null
}

function tokensOf({ start, end, images, imageBytes }: PromptPiece): number {
  return Math.ceil((end - start - imageBytes) / bytesPerToken) + images * tokensPerImage
}
