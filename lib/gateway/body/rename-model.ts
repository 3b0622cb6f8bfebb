/** What the answers to a request call its model, and what they shall call it. */
export interface ModelRename {
  /** As the node was asked for it, and answers. */
  readonly node: string
  /** As the caller wrote it. */
  readonly caller: string
}

const lineFeed = 0x0a

/**
 * The bytes of whole lines, with the caller's name of the model in place of the node's. Quotes within a text are escaped,
 * so no text is changed; and only the first match of a line is, since every dialect names the model before all else that
 * could hold a field of that name (docs/ollama.md#answers).
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
