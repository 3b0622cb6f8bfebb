import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { appendFile, chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { findProgram } from '../../support/programs.ts'

const hasDpkg = ((): boolean => {
  try {
    execFileSync('dpkg-deb', ['--version'])
    return true
  } catch {
    return false
  }
})()

suite('a program that the tests need, unpacked into a cache', { skip: !hasDpkg }, () => {
  const program = 'llamero-test-tool'
  let folder: string
  let cache: string
  let fetched = 0
  /** Packs the program as Debian does. */
  const fetchPackage = async (name: string, target: string) => {
    fetched++
    const content = join(target, 'content')
    await mkdir(join(content, 'DEBIAN'), { recursive: true })
    await mkdir(join(content, 'usr', 'bin'), { recursive: true })
    const control = `Package: ${name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.com>\nDescription: a\n`
    await writeFile(join(content, 'DEBIAN', 'control'), control)
    await writeFile(join(content, 'usr', 'bin', program), '#!/bin/sh\necho fine\n', { mode: 0o755 })
    execFileSync('dpkg-deb', ['--build', content, join(target, `${name}.deb`)])
  }
  const find = () => findProgram(program, 'a-package', cache, fetchPackage)
  const fetchesOf = async (ask: () => Promise<string>) => {
    const earlier = fetched
    assert.equal(execFileSync(await ask(), { encoding: 'utf8' }), 'fine\n')
    return fetched - earlier
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'llamero-programs-'))
    cache = join(folder, 'cache')
  })
  after(() => rm(folder, { recursive: true }))

  test('is fetched once', async () => {
    assert.equal(await fetchesOf(find), 1)
    assert.equal(await fetchesOf(find), 0)
  })

  test('is fetched again when its bytes are not those that were unpacked', async () => {
    await appendFile(await find(), 'echo more\n')
    assert.equal(await fetchesOf(find), 1)
    assert.equal(await fetchesOf(find), 0)
  })

  test('is fetched again when others could have changed it', async () => {
    for (const path of [await find(), join(cache, 'a-package'), join(cache, 'a-package', 'usr', 'bin')]) {
      await chmod(path, 0o777)
      assert.equal(await fetchesOf(find), 1, path)
    }
  })

  test('is not unpacked where others could change it', async () => {
    await chmod(cache, 0o777)
    await assert.rejects(find(), (error: Error) => /is not ours alone/.test(String(error.cause)))
    await chmod(cache, 0o700)
    assert.equal(await fetchesOf(find), 0)
  })
})
