/** The names of the model in the node's responses and for the caller. */
export interface ModelRename {
  /** As the node got it, and writes it. */
  readonly node: string
  /** As the caller wrote it. */
  readonly caller: string
}

const lineFeed = 0x0a

/**
 * Replaces the node's model name by the caller's in whole lines. Quotes within a text are escaped, so no text is
 * changed. Only the first match of a line is replaced, since every API writes the model before any field that could
 * hold the same text (docs/ollama.md#answers).
 */
export function renameModel(bytes: Buffer, { node, caller }: ModelRename): Buffer {
  const wanted = Buffer.from(`"model":${JSON.stringify(node)}`)
  const written = Buffer.from(`"model":${JSON.stringify(caller)}`)
  const pieces: Buffer[] = []
  let copied = 0
  let found = bytes.indexOf(wanted)
  while (found >= 0) {
    pieces.push(bytes.subarray(copied, found), written)
    copied = found + wanted.length
    const end = bytes.indexOf(lineFeed, copied)
    found = end < 0 ? -1 : bytes.indexOf(wanted, end)
  }
  return copied === 0 ? bytes : Buffer.concat([...pieces, bytes.subarray(copied)])
}
