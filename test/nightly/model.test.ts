import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { findProgram } from '../support/programs.ts'

const run = promisify(execFile)
const model = fileURLToPath(new URL('../model/election.pml', import.meta.url))

/** `safety` looks at every state, `progress` for ways to go on for ever without a write. */
type Search = 'safety' | 'progress'

describe('the model of the election', () => {
  let dir: string
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'llamero-model-'))
  })
  after(() => rm(dir, { recursive: true }))

  /** Searches all states, and returns how many errors it found (at the first it stops) and how many states there are. */
  const search = async (kind: Search, ...defines: readonly string[]) => {
    const cwd = await mkdtemp(join(dir, 'search-'))
    const spin = await findProgram('spin', 'spin')
    await run(spin, ['-a', ...defines.map((define) => `-D${define}`), model], { cwd })
    const flags = ['-O2', '-DCOLLAPSE', kind === 'safety' ? '-DSAFETY' : '-DNP']
    await run('gcc', [...flags, '-o', 'pan', 'pan.c'], { cwd })
    const { stdout } = await run(join(cwd, 'pan'), ['-m2000000', ...(kind === 'progress' ? ['-l'] : [])], {
      cwd,
    })
    assert.doesNotMatch(stdout, /max search depth too small|out of memory/)
    const errors = Number(/errors: (\d+)/.exec(stdout)?.[1])
    const states = Number(/(\d+) states, stored/.exec(stdout)?.[1])
    return { errors, states, stdout }
  }

  const holds: readonly [what: string, search: Search, defines: readonly string[]][] = [
    ['one leader, one writer, no deadlock: two instances, five faults', 'safety', ['N=2', 'FAULTS=5']],
    ['one leader, one writer, no deadlock: three instances, three faults', 'safety', ['N=3', 'FAULTS=3']],
    [
      'one writer, also when clocks of suspended machines stand still',
      'safety',
      ['N=2', 'FAULTS=5', 'SUSPEND'],
    ],
    ['writes go on after the last of four faults, two instances', 'progress', ['N=2', 'FAULTS=4']],
    ['writes go on after the last of two faults, three instances', 'progress', ['N=3', 'FAULTS=2']],
  ]
  for (const [what, kind, defines] of holds) {
    it(`holds: ${what}`, async (test) => {
      const { errors, states, stdout } = await search(kind, ...defines)
      test.diagnostic(`${states} states`)
      assert.equal(errors, 0, stdout)
    })
  }

  const mistakes: readonly [what: string, search: Search, define: string][] = [
    ['writes are not guarded by the fence', 'safety', 'NO_FENCE'],
    ['a renewal counts from its answer', 'safety', 'FROM_ANSWER'],
    ['the keys of dead leases stay', 'progress', 'NO_EXPIRY'],
  ]
  for (const [what, kind, define] of mistakes) {
    it(`finds the mistake when ${what}`, async () => {
      assert.equal((await search(kind, define)).errors, 1)
    })
  }
})
