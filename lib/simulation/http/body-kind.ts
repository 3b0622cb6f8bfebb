import type { IncomingMessage } from 'node:http'
import { zstdDecompressSync } from 'node:zlib'
import { decodeBody } from './json.ts'
import type { DecodedBody } from './machine.ts'
import { Refusal } from './refusal.ts'

/** How a path takes the bodies of its requests. */
export type NodeBodyKind = 'json' | 'json-or-zstd' | 'form' | 'stream'

const mostDecompressed = 20 * 1024 * 1024
const zstdPaths = ['chat/completions', 'completions', 'embeddings', 'responses', 'messages']
const kinds: ReadonlyMap<string, NodeBodyKind> = new Map([
  ...zstdPaths.map((path) => [`/v1/${path}`, 'json-or-zstd'] as const),
  ['/v1/audio/transcriptions', 'form'],
])

/** Compressed bodies are understood on five routes only (docs/ollama.md#requests). */
export function bodyKindOf(path: string): NodeBodyKind {
  return path.startsWith('/api/blobs/') ? 'stream' : (kinds.get(path) ?? 'json')
}

/** The whole body, or null when the client left while it sent it. */
export async function bytesOf(request: IncomingMessage): Promise<Buffer | null> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of request) chunks.push(chunk)
  } catch {
    return null
  }
  return Buffer.concat(chunks)
}

/** The decoded body, or the refusal of a body that cannot be read. */
export async function decoded(
  bytes: Buffer,
  kind: NodeBodyKind,
  { headers }: IncomingMessage,
): Promise<DecodedBody> {
  try {
    if (kind === 'form') return { value: await formOf(bytes, headers['content-type'] ?? '') }
    const isZstd = kind === 'json-or-zstd' && headers['content-encoding']?.toLowerCase() === 'zstd'
    return { value: decodeBody(isZstd ? decompressed(bytes) : bytes) }
  } catch (error) {
    if (error instanceof Refusal) return { refusal: error }
    throw error
  }
}

function decompressed(bytes: Buffer): Buffer {
  try {
    return zstdDecompressSync(bytes, { maxOutputLength: mostDecompressed })
  } catch (error) {
    const isTooLong = error instanceof RangeError
    throw new Refusal(
      400,
      isTooLong ? 'http: request body too large' : 'invalid input: magic number mismatch',
    )
  }
}

/** The fields of a multipart form; a file becomes its name and its size in bytes. */
async function formOf(bytes: Buffer, type: string): Promise<Record<string, unknown>> {
  let form: FormData
  try {
    form = await new Response(Uint8Array.from(bytes), { headers: { 'Content-Type': type } }).formData()
  } catch {
    throw new Refusal(400, 'failed to parse multipart form')
  }
  const plain = (value: string | File) =>
    typeof value === 'string' ? value : { name: value.name, bytes: value.size }
  return Object.fromEntries([...form].map(([name, value]) => [name, plain(value)]))
}
