import { type App, startApp } from './app.ts'
import { type Flags, loadSettings, SettingsError, unknownVariables } from './settings.ts'
import { messageOf } from './shared/errors.ts'

/** Load balancers look at `/readyz` every few seconds: until they have seen it, connections are still accepted. */
const graceMs = 5_000
/** Streams may be long. The service's TimeoutStopSec is longer than this. */
const drainMs = 300_000

interface Streams {
  readonly stderr: NodeJS.WritableStream
}

/** `llamero serve`: runs an instance until a signal ends it. Resolves to the exit code. */
export async function serve(flags: Flags, { stderr }: Streams): Promise<number> {
  const app = await start(flags, stderr)
  if (typeof app === 'number') return app
  await untilStopped(app)
  return 0
}

/** Starts an instance, or says in one line why it cannot: exit code 2 for a wrong setting, 1 for anything else. */
export async function start(flags: Flags, stderr: NodeJS.WritableStream): Promise<App | number> {
  try {
    const strangers = unknownVariables()
    const app = await startApp(loadSettings(flags))
    for (const variable of strangers) app.log.warn('unknown environment variable', { variable })
    return app
  } catch (error) {
    stderr.write(`error: ${reasonOf(error)}\n`)
    return error instanceof SettingsError ? 2 : 1
  }
}

/**
 * Resolves when the instance, or whatever else stops like one, has stopped. SIGTERM drains with a grace for load balancers, SIGINT (a person at the
 * keyboard) without; the second of either stops at once.
 */
export async function untilStopped(app: Pick<App, 'log' | 'stop'>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = (signal: NodeJS.Signals) => {
    const limits = { graceMs: signal === 'SIGINT' ? 0 : graceMs, drainMs }
    void app.stop(limits).then(resolve, (error) => {
      app.log.error('stopping failed', { error })
      resolve()
    })
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  // A bug: nothing can be trusted after it. The service manager starts us again, the other instances go on.
  process.on('uncaughtException', (error) => {
    app.log.error('uncaught exception', { error, stack: error.stack })
    process.exit(1)
  })
  await promise
}

function reasonOf(error: unknown): string {
  const { code, address, port } = error as { code?: string; address?: string; port?: number }
  if (code === 'EADDRINUSE') return `${address}:${port} is in use by another process`
  if (code === 'EACCES' && port) return `no permission to listen on ${address}:${port}`
  if (code === 'EADDRNOTAVAIL') return `${address} is not an address of this machine`
  return messageOf(error)
}
