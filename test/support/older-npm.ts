import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { cacheFolder } from './programs.ts'

const run = promisify(execFile)

/** The oldest npm and Node that the project installs itself with: those of Debian 12. */
const versions = { npm: '9.2.0', node: '18.20.4' }

/** The folder of these two programs: of the user's cache, else from the registry. */
export async function findOlderNpm(cache = cacheFolder()): Promise<string> {
  const folder = join(cache, `npm-${versions.npm}-node-${versions.node}`)
  const programs = join(folder, 'node_modules', '.bin')
  const isThere = () =>
    access(join(programs, 'npm')).then(
      () => true,
      () => false,
    )
  if (await isThere()) return programs
  await mkdir(dirname(folder), { recursive: true, mode: 0o700 })
  const work = await mkdtemp(join(cache, 'npm-'))
  try {
    const packages = [`npm@${versions.npm}`, `node-${process.platform}-${process.arch}@${versions.node}`]
    await run('npm', ['install', '--no-save', '--prefix', work, '--prefer-offline', ...packages])
    await rename(work, folder)
  } catch (cause) {
    // Another process may have put it there first.
    if (!(await isThere()))
      throw new Error(`npm ${versions.npm} cannot be installed into ${cache}`, { cause })
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  return programs
}

/**
 * The environment of a user who has never seen this project: nothing of the npm, the Node and the tests that run us, but
 * how this machine reaches a registry.
 */
export function strangersEnvironment(): NodeJS.ProcessEnv {
  const ours = /^(npm_|NODE|TEST_|LLAMERO_|INIT_CWD$)/
  const ofMachine = /^(npm_config_(registry|cache|cafile|userconfig|.*proxy)|NODE_EXTRA_CA_CERTS)$/
  const names = Object.keys(process.env).filter((name) => ours.test(name) && !ofMachine.test(name))
  return Object.fromEntries(names.map((name) => [name, undefined]))
}
