import { randomBytes } from 'node:crypto'
import { link, readFile, rm, writeFile } from 'node:fs/promises'

/**
 * The admin token in `file`, readable by its owner only, which the first to ask makes.
 *
 * Instances that share a state directory may start in the same moment: the file gets its name when it is whole, and
 * the name is given once (`link` never replaces), so that all of them read the same token.
 * @throws {Error} when the file is empty, or cannot be read or made.
 */
export async function readOrCreateToken(file: string): Promise<string> {
  const token = (await read(file)) ?? (await create(file))
  if (!token) throw new Error(`${file} holds no token: remove it, and the next start makes a new one`)
  return token
}

/** Null when there is no such file. */
async function read(file: string): Promise<string | null> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

async function create(file: string): Promise<string | null> {
  const token = randomBytes(32).toString('base64url')
  const fresh = `${file}.${randomBytes(8).toString('hex')}`
  try {
    await writeFile(fresh, `${token}\n`, { mode: 0o600, flag: 'wx', flush: true })
    await link(fresh, file)
    return token
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return read(file) // another was first
    throw error
  } finally {
    await rm(fresh, { force: true })
  }
}
