import { setFlagsFromString } from 'node:v8'
import { type App, type Parts, startApp } from '../app.ts'
import { SettingsError } from '../settings/definitions.ts'
import { isJournal } from '../settings/environment.ts'
import type { Flags } from '../settings/setting-lines.ts'
import { exposedFiles, loadSettings } from '../settings/settings.ts'
import { unknownVariables } from '../settings/unknown-variables.ts'
import { messageOf } from '../shared/errors.ts'
import { priorityOf } from '../shared/winston.ts'

/** Milliseconds for the last errors and log lines after a bug. */
const crashMs = 1_200
/** Milliseconds for the last log lines at the end; a slower reader of the log misses them. */
const flushMs = 2_000

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

/**
 * Starts an instance, or says in one line why it cannot: exit code 2 for a wrong setting, 1 for anything else.
 *
 * @param prepare see `startApp`.
 */
export async function start(
  flags: Flags,
  stderr: NodeJS.WritableStream,
  prepare?: (parts: Parts) => Promise<void>,
): Promise<App | number> {
  // V8 allocates objects in the old space when earlier objects of the same place lived long, and never unlearns it. After
  // some hundred streams of seconds, a quarter of all garbage would wait for a full collection, at a twentieth of the CPU.
  setFlagsFromString('--no-allocation-site-pretenuring')
  try {
    const unknown = unknownVariables()
    const settings = await loadSettings(flags)
    const exposed = await exposedFiles(flags)
    const app = await startApp(settings, prepare)
    for (const reason of exposed) app.log.warn('a secret is not safe', { reason })
    for (const variable of unknown) app.log.warn('unknown environment variable', { variable })
    return app
  } catch (error) {
    stderr.write(lastWords(messageOf(error)))
    return error instanceof SettingsError ? 2 : 1
  }
}

/** Why a service does not start, for the operator or the journal. */
export function lastWords(reason: string): string {
  return `${isJournal(2) ? priorityOf('error') : ''}error: ${reason}\n`
}

/** An instance, or an agent: it stops in the same way. */
type Stoppable = Pick<App, 'log' | 'stop' | 'patience'>

/**
 * Resolves when `app` has stopped and its log is written. To be called as soon as `app` has started: it handles signals
 * from then on. SIGTERM drains with a grace for load balancers, SIGINT (the
 * operator at the keyboard) without. A second signal stops at once.
 */
export async function untilStopped(app: Stoppable): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = (signal: NodeJS.Signals) => {
    const limits = { ...app.patience, ...(signal === 'SIGTERM' ? {} : { graceMs: 0 }) }
    void app.stop(limits).then(resolve, (error) => {
      app.log.error('stopping failed', { error })
      resolve()
    })
  }
  process.on('SIGTERM', stop)
  process.on('SIGINT', stop)
  // With a terminal: it was closed. Without: operators send SIGHUP to reload, which must not end the service.
  process.on('SIGHUP', (signal) => {
    if (process.stdin.isTTY) stop(signal)
    else app.log.info('nothing to reload: changes in the store apply at once, settings at the next start')
  })
  process.on('SIGUSR1', () => {}) // by default, Node opens a debugger's port
  process.on('uncaughtException', (error: unknown) => void crash(app, error))
  await promise
  // A stuck reader of the log would keep the process from ending.
  setTimeout(() => process.exit(), flushMs).unref()
  await app.log.flush()
}

/**
 * After a bug no state can be trusted. Callers get an error, the log is written, and within two seconds the process ends
 * with 1, even if a part hangs. The service manager restarts this instance; the other instances go on.
 */
async function crash(app: Stoppable, error: unknown): Promise<void> {
  setTimeout(() => process.exit(1), crashMs)
  app.log.error('uncaught exception', { error, stack: error instanceof Error ? error.stack : undefined })
  await app.stop().catch(() => {})
  await app.log.flush()
  process.exit(1)
}
