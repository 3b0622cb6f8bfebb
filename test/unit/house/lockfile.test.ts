import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { suite, test } from 'node:test'

interface Package {
  readonly version?: string
  readonly resolved?: string
  readonly integrity?: string
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
  readonly libc?: readonly string[]
  readonly optional?: boolean
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const read = async (name: string) =>
  JSON.parse(await readFile(new URL(`../../../${name}`, import.meta.url), 'utf8'))
const { packages } = (await read('package-lock.json')) as { packages: Record<string, Package> }
const { allowScripts } = (await read('package.json')) as { allowScripts: Record<string, boolean> }
const installed = Object.entries(packages).filter(([path]) => path !== '')

/** Where a package at `path` finds a dependency: in its own folder, else in one further up. */
function found(path: string, dependency: string): Package | undefined {
  for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('node_modules/') - 1))) {
    const at = packages[`${folder === '' ? '' : `${folder}/`}node_modules/${dependency}`]
    if (at || folder === '') return at
  }
}

/** What npm would install for a machine, of the packages that only some machines get. */
function nativesOf(os: string, cpu: string): string[] {
  const fits = (wanted: readonly string[] | undefined, is: string) => !wanted || wanted.includes(is)
  const ofMachine = installed.filter(
    ([, each]) => each.os && fits(each.os, os) && fits(each.cpu, cpu) && fits(each.libc, 'glibc'),
  )
  return ofMachine.map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
}

suite('the lockfile', () => {
  test('holds every dependency of every package, for machines of all kinds: newer npm refuses it otherwise', () => {
    const missing = Object.entries(packages).flatMap(([path, { dependencies, optionalDependencies }]) =>
      Object.keys({ ...dependencies, ...optionalDependencies })
        .filter((name) => !found(path, name))
        .map((name) => `${path}: ${name}`),
    )
    assert.deepEqual(missing, [])
  })

  test('pins every package by its hash and names no registry', () => {
    assert.deepEqual(
      installed.filter(([, { integrity }]) => !integrity?.startsWith('sha512-')).map(([path]) => path),
      [],
    )
    assert.deepEqual(
      installed.filter(([, { resolved }]) => resolved !== undefined).map(([path]) => path),
      [],
    )
  })

  for (const [os, cpu] of [
    ['linux', 'x64'],
    ['linux', 'arm64'],
    ['darwin', 'arm64'],
    ['win32', 'x64'],
  ] as const)
    test(`has the native parts of the compiler and the linters for ${os} on ${cpu}`, () => {
      const natives = nativesOf(os, cpu)
      for (const tool of [
        /^@biomejs\/cli-/,
        /^@typescript\/typescript-/,
        /^@oxc-parser\/binding-/,
        /^@oxc-resolver\/binding-/,
      ])
        assert.equal(natives.filter((name) => tool.test(name)).length, 1, `${tool} among ${natives}`)
    })

  test("only the project's own Node runs a script when it is installed", () => {
    assert.deepEqual(allowScripts, { node: true, protobufjs: false })
  })
})
