import { type FileHandle, open, readFile, rename, stat } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import { createFile, syncDirectoryOf } from '../../shared/process/write-file.ts'
import { StoreError } from '../store.ts'

const magic = Buffer.from('llamero store 1\n')
/** Before each payload: its length and its CRC-32, both unsigned 32 bits, big-endian. */
const headBytes = 8

/** The file was removed or replaced: writes to the open file would be lost with the next start. */
export class JournalGone extends Error {}

/**
 * An append-only file of records that survives a crash at any byte.
 *
 * The first record is written with the whole file and put in place by rename: it is whole, or the file is damaged. A crash
 * may tear any later record: it was never acknowledged, and is cut off when the file is opened.
 */
export class Journal {
  readonly #path: string
  #file: FileHandle
  #size: number
  /** Undoes a failed write; no record goes to disk before that. */
  #repair: (() => Promise<void>) | null = null

  private constructor(path: string, file: FileHandle, size: number) {
    this.#path = path
    this.#file = file
    this.#size = size
  }

  /**
   * Opens the file, or creates it with `first` as its only record.
   *
   * @returns the payloads in their order, and how many bytes of a torn tail were cut off.
   * @throws StoreError `denied` when the file is no journal or its first record is damaged
   */
  static async open(
    path: string,
    first: Buffer,
  ): Promise<{ journal: Journal; payloads: readonly Buffer[]; cutBytes: number }> {
    const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
      return null
    })
    if (!bytes) {
      const file = await replace(path, first)
      await syncDirectoryOf(path)
      return { journal: new Journal(path, file, sizeWith(first)), payloads: [first], cutBytes: 0 }
    }
    const { payloads, end } = parse(bytes)
    if (payloads.length === 0) {
      throw new StoreError('denied', `${path} is damaged or no store file: move it away, or restore a backup`)
    }
    const file = await open(path, 'r+')
    if (end < bytes.length) await file.truncate(end)
    return { journal: new Journal(path, file, end), payloads, cutBytes: bytes.length - end }
  }

  /** Bytes in the file. */
  get size(): number {
    return this.#size
  }

  /** Resolves once all `payloads` are on the disk; after a rejection none of them is in the file, unless the process dies too. */
  async append(payloads: readonly Buffer[]): Promise<void> {
    await this.#checkInPlace()
    await this.#repair?.()
    this.#repair = null
    const bytes = Buffer.concat(payloads.flatMap(framed))
    try {
      await writeAll(this.#file, bytes, this.#size)
      await this.#file.datasync()
    } catch (error) {
      // Whole records may lie behind the failure, and shorter records would not overwrite them.
      const size = this.#size
      this.#repair = () => this.#file.truncate(size)
      throw error
    }
    this.#size += bytes.length
  }

  /** @throws JournalGone */
  async #checkInPlace(): Promise<void> {
    const [own, there] = await Promise.all([
      this.#file.stat({ bigint: true }),
      stat(this.#path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error
        return null
      }),
    ])
    if (there?.ino !== own.ino || there.dev !== own.dev) throw new JournalGone()
  }

  /** Puts a fresh file with the one record `payload` in the place of this one; on failure the old one stays. */
  async rewrite(payload: Buffer): Promise<void> {
    const fresh = await replace(this.#path, payload)
    const old = this.#file
    this.#file = fresh
    this.#size = sizeWith(payload)
    this.#repair = () => syncDirectoryOf(this.#path)
    await old.close()
    await this.#repair()
    this.#repair = null
  }

  async close(): Promise<void> {
    await this.#file.close()
  }
}

function framed(payload: Buffer): Buffer[] {
  const head = Buffer.alloc(headBytes)
  head.writeUInt32BE(payload.length, 0)
  head.writeUInt32BE(crc32(payload), 4)
  return [head, payload]
}

function sizeWith(payload: Buffer): number {
  return magic.length + headBytes + payload.length
}

/** The whole records from the start of `bytes`, and where the last of them ends. */
function parse(bytes: Buffer): { payloads: Buffer[]; end: number } {
  const payloads: Buffer[] = []
  let end = magic.length
  if (!bytes.subarray(0, end).equals(magic)) return { payloads, end }
  while (end + headBytes <= bytes.length) {
    const length = bytes.readUInt32BE(end)
    const payload = bytes.subarray(end + headBytes, end + headBytes + length)
    // A crash can leave a tail of zeros, and nothing has the checksum 0: no record is empty.
    if (length === 0 || payload.length < length || crc32(payload) !== bytes.readUInt32BE(end + 4)) break
    payloads.push(payload)
    end += headBytes + length
  }
  return { payloads, end }
}

/** Writes a file beside `path` and renames it over `path`: at any moment there is the old file or the new one. */
async function replace(path: string, payload: Buffer): Promise<FileHandle> {
  const fresh = `${path}.new`
  const file = await createFile(fresh, (each) =>
    writeAll(each, Buffer.concat([magic, ...framed(payload)]), 0),
  )
  try {
    await rename(fresh, path)
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

async function writeAll(file: FileHandle, bytes: Buffer, at: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done)
    done += bytesWritten
  }
}
