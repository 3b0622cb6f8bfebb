import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { constants, createReadStream, type Stats } from 'node:fs'
import { access, lstat, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The cache of unpacked programs: a folder of the user, because other users may write to a shared one. */
export function cacheFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'llamero')
}

/**
 * The path of a program: of the PATH, else of a Debian package, unpacked into a cache of the user's, which needs no root.
 *
 * @param fetchPackage puts the package's archive into a folder.
 */
export async function findProgram(
  program: string,
  debianPackage: string,
  cache = cacheFolder(),
  fetchPackage = download,
): Promise<string> {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    if (await isExecutable(join(dir, program))) return join(dir, program)
  }
  const folder = join(cache, debianPackage)
  const path = join(folder, 'usr', 'bin', program)
  if (await isOurs(cache, folder, path)) return path
  try {
    await unpack(debianPackage, folder, cache, fetchPackage)
  } catch (cause) {
    throw new Error(
      `${program} is needed: install it (Debian: apt install ${debianPackage}) or put it on the PATH`,
      { cause },
    )
  }
  return path
}

/** Whether only we can have changed the program, and it is what was unpacked: a disk that was full leaves half a file. */
async function isOurs(cache: string, folder: string, path: string): Promise<boolean> {
  for (const each of [cache, folder, join(folder, 'usr'), join(folder, 'usr', 'bin'), path]) {
    const stats = await lstat(each).catch(() => null)
    if (!stats || stats.isSymbolicLink() || !belongsToUs(stats)) return false
  }
  const digests = await readFile(digestsFile(folder), 'utf8').catch(() => '')
  return digests.includes(`${await digestOf(path)}  ${path}\n`)
}

function belongsToUs({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & 0o022) === 0
}

/** Downloads a package of Debian's: apt checks it against the signed index. */
async function download(debianPackage: string, folder: string): Promise<void> {
  await run('apt-get', ['download', debianPackage], { cwd: folder })
}

/** Unpacks a package; several test processes may do it at once. */
async function unpack(
  debianPackage: string,
  target: string,
  cache: string,
  fetchPackage: typeof download,
): Promise<void> {
  await mkdir(cache, { recursive: true, mode: 0o700 })
  if (!belongsToUs(await lstat(cache)))
    throw new Error(`${cache} is not ours alone: chmod go-w, or remove it`)
  const work = await mkdtemp(join(cache, 'unpack-'))
  try {
    await fetchPackage(debianPackage, work)
    const archive = (await readdir(work)).find((name) => name.endsWith('.deb'))
    if (!archive) throw new Error(`apt-get downloaded no ${debianPackage}`)
    const fresh = join(work, 'fresh')
    await run('dpkg-deb', ['-x', join(work, archive), fresh])
    const programs = join('usr', 'bin')
    const lines = (await readdir(join(fresh, programs))).map(async (name) => {
      return `${await digestOf(join(fresh, programs, name))}  ${join(target, programs, name)}\n`
    })
    await writeFile(digestsFile(fresh), (await Promise.all(lines)).join(''))
    await rm(target, { recursive: true, force: true })
    // Another process may have put the same files there first.
    await rename(fresh, target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

function digestsFile(folder: string): string {
  return join(folder, 'sha256')
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
