import { fileURLToPath } from 'node:url'
import { runCli } from '../lib/cli/program.ts'
import { adminToken } from '../lib/settings/admin-token.ts'
import { SettingsError } from '../lib/settings/definitions.ts'
import { editor } from '../lib/settings/environment.ts'
import { settingLines } from '../lib/settings/setting-lines.ts'
import { RealClock } from '../lib/shared/clock.ts'
import { version } from '../lib/version.ts'

const { argv, stdin, stdout, stderr } = process
const streams = { stdout, stderr, executable: fileURLToPath(new URL('llamero.js', import.meta.url)) }
// For `ps`. No flag takes a secret.
process.title = ['llamero', ...argv.slice(2)].join(' ')

// A running command ends with exit code 130; serve, quickstart, agent and simulate handle the signal themselves.
const interrupted = new AbortController()
process.once('SIGINT', () => interrupted.abort())

try {
  const settings = await settingLines()
  process.exitCode = await runCli(argv.slice(2), {
    adminUrl: settings.find(({ name }) => name === 'admin_url')?.value ?? '',
    adminToken: () => adminToken(settings),
    stdin,
    stdout,
    stderr,
    colour: stdout.isTTY && stdout.hasColors(),
    version,
    clock: new RealClock(),
    signal: interrupted.signal,
    settings: () => settings,
    editor: editor(),
    // Imported on demand: a CLI command must not load the code of an instance.
    run: {
      serve: async (flags) => (await import('../lib/commands/serve.ts')).serve(flags, streams),
      quickstart: async (flags) => (await import('../lib/commands/quickstart.ts')).quickstart(flags, streams),
      agent: async (flags, options) =>
        (await import('../lib/commands/agent.ts')).agent(flags, options, streams),
      simulateNode: async (options) =>
        (await import('../lib/commands/simulate.ts')).simulateNode(options, streams),
      rehearse: async (...given) => (await import('../lib/commands/rehearse.ts')).rehearse(...given),
    },
    defaultFleet: async () => (await import('../lib/simulation/fleet/fleet-plan.ts')).defaultFleetText,
  })
} catch (error) {
  if (!(error instanceof SettingsError)) throw error
  stderr.write((await import('../lib/commands/serve.ts')).lastWords(error.message))
  process.exitCode = 2
}
