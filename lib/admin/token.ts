import { randomBytes } from 'node:crypto'
import { link, open, rm } from 'node:fs/promises'
import { secretFileFault } from '../shared/process/secret-file.ts'
import { createFile, syncDirectoryOf } from '../shared/process/write-file.ts'

/**
 * The admin token in `file`, readable only by its owner. The first instance creates it.
 *
 * Instances that share a state directory may start at the same moment: the complete file gets its name by `link`, which
 * never replaces a file, so that all of them read the same token.
 * @throws {Error} when the file is empty, open to other users or another user's, or cannot be read or made.
 */
export async function readOrCreateToken(file: string): Promise<string> {
  const token = (await read(file)) ?? (await create(file))
  if (!token) throw new Error(`${file} holds no token: remove it, and the next start makes a new one`)
  return token
}

/** Null when there is no such file. */
async function read(file: string): Promise<string | null> {
  const handle = await open(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  if (handle === null) return null
  try {
    // Checks the open file, not the file that may have its name a moment later.
    const fault = secretFileFault(file, await handle.stat())
    if (fault !== null) throw new Error(fault)
    return (await handle.readFile('utf8')).trim()
  } finally {
    await handle.close()
  }
}

async function create(file: string): Promise<string | null> {
  const token = randomBytes(32).toString('base64url')
  const fresh = `${file}.${randomBytes(8).toString('hex')}`
  try {
    const written = await createFile(fresh, (each) => each.writeFile(`${token}\n`))
    await written.close()
    await link(fresh, file)
    await syncDirectoryOf(file)
    return token
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return read(file) // another instance was first
    throw error
  } finally {
    await rm(fresh, { force: true })
  }
}
