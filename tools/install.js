/**
 * Runs before every script of package.json: installs what package-lock.json names, where that is not there yet.
 *
 * It runs under the Node of the machine, of which any from 18 on will do, before there is a package: plain JavaScript, and
 * nothing but what Node brings. npm leaves out optional packages whose `engines` the Node that runs npm does not meet, and
 * with them the native parts of our tools. So there are two steps: the first brings the project's own Node, and the second
 * runs npm under that, for what the first left out.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** @typedef {{ version?: string, integrity?: string, optional?: boolean, os?: string[], cpu?: string[], libc?: string[] }} Package */
/** @typedef {Record<string, Package>} Packages */
/** @typedef {{ os: string, cpu: string, libc: string }} Machine */

/**
 * The packages that a machine lacks: those of the lockfile that are for it, without those installed as locked.
 *
 * @param {Packages} locked
 * @param {Packages} installed
 * @param {Machine} machine
 * @returns {string[]}
 */
export function missingPackages(locked, installed, machine) {
  /** @param {string[] | undefined} wanted @param {string} is */
  const fits = (wanted, is) =>
    !wanted || wanted.includes(is) || wanted.some((each) => each[0] === '!' && each !== `!${is}`)
  return (
    Object.entries(locked)
      .filter(([path, { os, cpu, libc }]) => {
        return path !== '' && fits(os, machine.os) && fits(cpu, machine.cpu) && fits(libc, machine.libc)
      })
      // Without a machine of its own it is needed by one that has, which need not be ours.
      .filter(([, { optional, os, cpu }]) => !optional || os || cpu)
      .filter(([path, { integrity }]) => installed[path]?.integrity !== integrity)
      .map(([path]) => path)
  )
}

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
const isWindows = process.platform === 'win32'
export const ownNode = join(root, 'node_modules', 'node', 'bin', isWindows ? 'node.exe' : 'node')

/** @param {string} name @returns {Packages} */
function packagesIn(name) {
  const path = join(root, name)
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).packages : {}
}

function missing() {
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (
    process.report?.getReport() ?? { header: {} }
  )
  const libc = report.header.glibcVersionRuntime ? 'glibc' : 'musl'
  const machine = { os: process.platform, cpu: process.arch, libc }
  // npm writes the second file with every installation.
  return missingPackages(
    packagesIn('package-lock.json'),
    packagesIn('node_modules/.package-lock.json'),
    machine,
  )
}

/** Runs npm under a Node. @param {string} node @param {string[]} words */
function npm(node, words) {
  const script = process.env['npm_execpath']
  /** @type {import('node:child_process').SpawnSyncOptions} */
  const options = { cwd: root, stdio: ['ignore', 2, 2] }
  // Also where the environment or npm's settings leave the dev dependencies out: our own Node is one.
  const args = [...words, '--include=dev', '--loglevel=error']
  const { status, error } = script
    ? spawnSync(node, ['--no-deprecation', script, ...args], options)
    : spawnSync('npm', args, { ...options, shell: isWindows })
  if (status !== 0)
    fail(`npm ${words.join(' ')} failed${error ? `: ${error.message}` : '; its own words are above'}`)
}

/** @param {string} reason @returns {never} */
function fail(reason) {
  process.stderr.write(`error: the packages of llamero are not installed: ${reason}\n`)
  process.exit(1)
}

/** Ends the process, with the reason, when it fails. */
export function install() {
  const lacking = missing()
  if (lacking.length === 0 && existsSync(ownNode)) return
  const startedAt = Date.now()
  process.stderr.write(
    `installing ${lacking.length} packages into node_modules (once; half a minute or more) ...\n`,
  )
  npm(process.execPath, existsSync(join(root, 'node_modules')) ? ['install', '--no-save'] : ['ci'])
  if (!existsSync(ownNode))
    fail('npm ran no install script of the package "node": run "npm rebuild node --ignore-scripts=false"')
  if (missing().length > 0) npm(ownNode, ['install', '--no-save'])
  process.stderr.write(`installed in ${Math.round((Date.now() - startedAt) / 1000)} s\n`)
}

if (process.argv[1] === fileURLToPath(import.meta.url)) install()
