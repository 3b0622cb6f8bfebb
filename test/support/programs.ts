import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** The path of a program: of the PATH, else of a Debian package, unpacked into a cache folder, which needs no root. */
export async function findProgram(program: string, debianPackage: string): Promise<string> {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    if (await isExecutable(join(dir, program))) return join(dir, program)
  }
  const cached = join(process.env['XDG_CACHE_HOME'] ?? tmpdir(), 'llamero', debianPackage)
  const path = join(cached, 'usr', 'bin', program)
  if (await isExecutable(path)) return path
  await unpack(debianPackage, cached).catch((cause: unknown) => {
    throw new Error(
      `${program} is needed: install it (Debian: apt install ${debianPackage}) or put it on the PATH`,
      {
        cause,
      },
    )
  })
  return path
}

/** Downloads and unpacks a package of Debian's, which needs no root; several test processes may do it at once. */
async function unpack(debianPackage: string, target: string): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'llamero-unpack-'))
  try {
    await run('apt-get', ['download', debianPackage], { cwd: work })
    const archive = (await readdir(work)).find((name) => name.endsWith('.deb'))
    if (!archive) throw new Error(`apt-get downloaded no ${debianPackage}`)
    const fresh = `${target}.${process.pid}`
    await mkdir(fresh, { recursive: true })
    await run('dpkg-deb', ['-x', join(work, archive), fresh])
    // Whoever came first has put the same files there.
    await rename(fresh, target).catch(() => rm(fresh, { recursive: true, force: true }))
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
