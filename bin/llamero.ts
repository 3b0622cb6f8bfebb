#!/usr/bin/env node
import { fileURLToPath } from 'node:url'
import { agent } from '../lib/agent.ts'
import { runCli } from '../lib/cli/program.ts'
import { quickstart } from '../lib/quickstart.ts'
import { defaultFleetText } from '../lib/rehearsal/fleet-plan.ts'
import { rehearse } from '../lib/rehearse.ts'
import { lastWords, serve } from '../lib/serve.ts'
import { adminToken, editor, SettingsError, settingLines } from '../lib/settings.ts'
import { RealClock } from '../lib/shared/clock.ts'
import { simulateNode } from '../lib/simulate.ts'
import { version } from '../lib/version.ts'

const { stdin, stdout, stderr } = process
const streams = { stdout, stderr, executable: fileURLToPath(import.meta.url) }

// A command under way ends with exit code 130; serve, quickstart, agent and simulate take the signal themselves.
const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort())

try {
  const settings = settingLines()
  process.exitCode = await runCli(process.argv.slice(2), {
    adminUrl: settings.find(({ name }) => name === 'admin_url')?.value ?? '',
    adminToken,
    stdin,
    stdout,
    stderr,
    colour: stdout.isTTY && stdout.hasColors(),
    version,
    clock: new RealClock(),
    signal: interrupted.signal,
    settings: () => settings,
    editor: editor(),
    run: {
      serve: (flags) => serve(flags, streams),
      quickstart: (flags) => quickstart(flags, streams),
      agent: (flags, options) => agent(flags, options, streams),
      simulateNode: (options) => simulateNode(options, streams),
      rehearse,
    },
    defaultFleet: defaultFleetText,
  })
} catch (error) {
  if (!(error instanceof SettingsError)) throw error
  stderr.write(lastWords(error.message))
  process.exitCode = 2
}
