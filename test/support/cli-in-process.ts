import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { type CliContext, runCli } from '../../lib/cli/program.ts'
import { rehearse } from '../../lib/commands/rehearse.ts'
import { settingLines } from '../../lib/settings/setting-lines.ts'
import { RealClock } from '../../lib/shared/clock.ts'
import { defaultFleetText } from '../../lib/simulation/fleet/fleet-plan.ts'

interface Ran {
  readonly code: number
  /** Of both streams, in order. */
  readonly printed: string
}

/** Runs one command line in this process, where it costs a hundredth of a process of its own; none that serves. */
export async function runHere(argv: readonly string[], given: Partial<CliContext> = {}): Promise<Ran> {
  let printed = ''
  const out = new Writable({
    write(chunk, _encoding, done) {
      printed += chunk
      done()
    },
  })
  const settings = await settingLines()
  const serves = () => Promise.reject(new Error('this command runs in a process of its own only'))
  const code = await runCli(argv, {
    adminUrl: 'http://127.0.0.1:11400',
    adminToken: () => null,
    stdin: new PassThrough().end(),
    stdout: Object.assign(out, { columns: 110 }),
    stderr: out,
    colour: false,
    version: '0',
    clock: new RealClock(),
    signal: new AbortController().signal,
    settings: () => settings,
    editor: 'false',
    run: { serve: serves, quickstart: serves, agent: serves, simulateNode: serves, rehearse },
    defaultFleet: async () => defaultFleetText,
    ...given,
  })
  return { code, printed }
}

/** A shell script that has this process run each command line it is called with, until `stop`. */
export async function commandFor(
  given: Partial<CliContext>,
): Promise<{ readonly script: string; readonly stop: () => void }> {
  const server = createServer(async (request, response) => {
    const argv = (await text(request)).split('\n').slice(0, -1)
    const { code, printed } = await runHere(argv, given)
    response.end(`${code}\n${printed}`)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const script = `#!/bin/sh
answer=$(printf '%s\\n' "$@" | curl -sS --data-binary @- http://127.0.0.1:${port}/)
printf '%s\\n' "$answer" | tail -n +2
exit "$(printf '%s\\n' "$answer" | head -n 1)"
`
  return { script, stop: () => void server.close() }
}
