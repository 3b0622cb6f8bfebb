import { fstatSync, readFileSync, statSync } from 'node:fs'
import { homedir, hostname } from 'node:os'
import { join } from 'node:path'
import { getCACertificates } from 'node:tls'
import { closest, distance } from 'fastest-levenshtein'
import { describeFaults } from './fleet/documents/contents.ts'
import { isObjectName, objectNameRule } from './fleet/documents/names.ts'
import { parseDuration } from './shared/duration.ts'
import { type LogFormat, type LogLevel, logLevels } from './shared/log.ts'
import { type Address, parseAddress } from './shared/net/address.ts'
import { isWorldReadable } from './shared/process/secret-file.ts'

/**
 * This instance's own settings: flag > environment > file > default. The only reader of the process's environment.
 * Settings of the whole cluster live in the store (`R/config`), not here.
 */
export interface Settings {
  readonly listen: Address
  readonly admin: Address
  /** Endpoints of etcd; none means the embedded store. */
  readonly etcd: readonly string[]
  readonly cluster: string
  readonly name: string
  readonly state: string
  /** Reads the PEM files again; throws a SettingsError when it cannot. Null: no TLS to etcd. */
  readonly etcdTls: (() => { readonly ca: Buffer; readonly cert?: Buffer; readonly key?: Buffer }) | null
  readonly logLevel: LogLevel
  readonly logFormat: LogFormat
  /** Milliseconds that SIGTERM gives to load balancers, and then to running requests. */
  readonly patience: { readonly graceMs: number; readonly drainMs: number }
}

export type Source = 'flag' | 'env' | 'file' | 'default'

/** One setting as `llamero env` shows it. */
export interface SettingLine {
  readonly name: string
  readonly flag: string
  readonly env: string
  readonly value: string
  readonly source: Source
  readonly help: string
  readonly secret: boolean
}

/** A wrong setting; the message says which one, where it came from, and what was expected. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError'
}

interface Definition {
  readonly env: string
  readonly fallback: () => string
  /** The default in words, where it depends on the machine. */
  readonly fallbackText?: string
  readonly help: string
  /** Whether a value fits this setting: tells a misspelt variable from a variable of another program. */
  readonly fits: (value: string) => boolean
  readonly secret?: boolean
}

const isAddress = (value: string) => parseAddress(value) !== null
const isEndpoints = (value: string) => value.split(',').every((each) => endpoint.test(each.trim()))
const isPath = (value: string) => /^(?!\d+$)[^:]+$/.test(value)
const isHttpUrl = (value: string) => /^https?:\/\/./.test(value)
const isDuration = (value: string) => parseDuration(value) !== null
const isWord = (value: string) => /^\S+$/.test(value)

const endpoint = /^(https?:\/\/)?[^/\s@]+:\d+\/?$/

const environment = process.env

/** The settings, in the order they are shown. */
const definitions = {
  listen: {
    env: 'LLAMERO_LISTEN',
    fallback: () => '127.0.0.1:11435',
    help: 'data listener, HOST:PORT',
    fits: isAddress,
  },
  admin: {
    env: 'LLAMERO_ADMIN',
    fallback: () => '127.0.0.1:11400',
    help: 'admin listener, HOST:PORT',
    fits: isAddress,
  },
  etcd: {
    env: 'LLAMERO_ETCD',
    fallback: () => '',
    help: 'endpoints of etcd, separated by commas, all http:// or all https://; empty: the embedded store',
    fits: isEndpoints,
  },
  cluster: {
    env: 'LLAMERO_CLUSTER',
    fallback: () => 'default',
    help: 'name of the cluster',
    fits: isObjectName,
  },
  name: {
    env: 'LLAMERO_NAME',
    fallback: hostname,
    fallbackText: 'the host name',
    help: 'name of this instance, unique in the cluster',
    fits: isObjectName,
  },
  state: {
    env: 'LLAMERO_STATE',
    fallback: defaultState,
    fallbackText: '$STATE_DIRECTORY, else llamero in $XDG_STATE_HOME or ~/.local/state',
    help: 'state directory',
    fits: isPath,
  },
  etcd_ca: {
    env: 'LLAMERO_ETCD_CA',
    fallback: () => '',
    help: "PEM file of the authority that signed etcd's certificate",
    fits: isPath,
  },
  etcd_cert: {
    env: 'LLAMERO_ETCD_CERT',
    fallback: () => '',
    help: "PEM file of llamero's certificate for etcd",
    fits: isPath,
  },
  etcd_key: {
    env: 'LLAMERO_ETCD_KEY',
    fallback: () => '',
    help: 'PEM file of the key of that certificate',
    fits: isPath,
  },
  log_level: {
    env: 'LLAMERO_LOG_LEVEL',
    fallback: () => 'info',
    help: logLevels.join(', '),
    fits: (value) => logLevels.some((each) => each === value),
  },
  log_format: {
    env: 'LLAMERO_LOG_FORMAT',
    fallback: () => (process.stdout.isTTY ? 'text' : 'json'),
    fallbackText: 'text on a terminal, else json',
    help: 'json, or text for people to read',
    fits: (value) => value === 'json' || value === 'text',
  },
  grace: {
    env: 'LLAMERO_GRACE',
    fallback: () => '5s',
    help: 'how long, after SIGTERM, connections are still accepted, until load balancers have taken the instance out',
    fits: isDuration,
  },
  drain: {
    env: 'LLAMERO_DRAIN',
    fallback: () => '300s',
    help: 'how long, after the grace, running answers may go on',
    fits: isDuration,
  },
  admin_url: {
    env: 'LLAMERO_ADMIN_URL',
    fallback: () => 'http://127.0.0.1:11400',
    help: 'admin listener that the CLI talks to',
    fits: isHttpUrl,
  },
  admin_token: {
    env: 'LLAMERO_ADMIN_TOKEN',
    fallback: () => '',
    help: 'admin token; default: the file in the state directory',
    secret: true,
    fits: isWord,
  },
} as const satisfies Record<string, Definition>

type Name = keyof typeof definitions
const names = Object.keys(definitions) as Name[]

/** The files for TLS to etcd, each with the other file that it needs. */
const tlsFiles = [
  ['etcd_ca', null],
  ['etcd_cert', 'etcd_key'],
  ['etcd_key', 'etcd_cert'],
] as const satisfies readonly (readonly [Name, Name | null])[]

const longestPatienceMs = 24 * 3_600_000

/** Settings that only the CLI reads: `serve` has no flag for them. */
const cliOnly: readonly Name[] = ['admin_url', 'admin_token']

/** Every setting as the documentation shows it, on any machine: `flag` is "" for settings that only the CLI reads. */
export const settingReference = names.map((name) => {
  const { env, fallback, fallbackText, help }: Definition = definitions[name]
  return { name, flag: flagOf(name), env, fallback: fallbackText ?? fallback(), help }
})

export type Flags = Readonly<Record<string, string | boolean | undefined>>

/**
 * Every setting with its value and source.
 *
 * @param flags by flag name without dashes (`log-level`).
 * @throws SettingsError when the file cannot be read or names an unknown setting.
 */
export async function settingLines(flags: Flags = {}): Promise<SettingLine[]> {
  const file = await readFile(flags)
  return names.map((name) => {
    const { env, fallback, help, secret = false }: Definition = definitions[name]
    const found = [
      { value: flags[name.replace('_', '-')], source: 'flag' as const },
      { value: isDockerLink(env, environment) ? '' : environment[env], source: 'env' as const },
      { value: file[name], source: 'file' as const },
    ].find(({ value }) => typeof value === 'string' && value !== '')
    const { value, source } = found ?? { value: fallback(), source: 'default' as const }
    return {
      name,
      flag: flagOf(name),
      env,
      value: String(value),
      source,
      help,
      secret,
    }
  })
}

function flagOf(name: Name): string {
  return cliOnly.includes(name) ? '' : `--${name.replace('_', '-')}`
}

/** The settings of `llamero serve`, checked. @throws SettingsError naming the first wrong one. */
export async function loadSettings(flags: Flags = {}): Promise<Settings> {
  const lines = new Map((await settingLines(flags)).map((line) => [line.name as Name, line]))
  const text = (name: Name) => lines.get(name)?.value ?? ''
  const wrong = (name: Name, expected: string) => {
    const line = lines.get(name)
    const origin =
      line?.source === 'flag' ? line.flag : line?.source === 'env' ? line.env : `${name} (${line?.source})`
    return new SettingsError(`${origin}: "${text(name)}" ${expected}`)
  }
  const address = (name: Name) => {
    const parsed = parseAddress(text(name))
    if (!parsed) throw wrong(name, 'is not HOST:PORT')
    return parsed
  }
  const objectName = (name: Name) => {
    if (!isObjectName(text(name))) throw wrong(name, `is not a name: ${objectNameRule}`)
    return text(name)
  }
  const oneOf = <T extends string>(name: Name, known: readonly T[]) => {
    const value = known.find((each) => each === text(name))
    if (!value) throw wrong(name, `is not one of ${known.join(', ')}`)
    return value
  }
  const milliseconds = (name: Name) => {
    const ms = parseDuration(text(name))
    if (ms === null || ms > longestPatienceMs)
      throw wrong(name, 'is not a duration with its unit, such as "30s", of 24 hours at most')
    return ms
  }
  const pem = (name: Name) => {
    if (text(name) === '') return undefined
    try {
      return readFileSync(text(name))
    } catch (error) {
      throw wrong(name, `cannot be read: ${(error as NodeJS.ErrnoException).code}`)
    }
  }
  const etcd = text('etcd')
    .split(',')
    .map((each) => each.trim())
    .filter((each) => each !== '')
  if (etcd.some((each) => each.includes('@')))
    throw new SettingsError(
      'LLAMERO_ETCD: an endpoint must not contain a user and password: they would be ignored, and readable by others; etcd knows llamero by the CN of its certificate',
    )
  if (etcd.some((each) => !endpoint.test(each))) throw wrong('etcd', 'is not a list of http(s)://HOST:PORT')
  const readTls = () => {
    const [ca, cert, key] = [pem('etcd_ca'), pem('etcd_cert'), pem('etcd_key')]
    return { ca: ca ?? machineAuthorities(), ...(cert && { cert }), ...(key && { key }) }
  }
  const isTls = etcd.some((each) => each.startsWith('https://'))
  const ignored = wouldBeIgnored(etcd, (name) => text(name) !== '')
  if (ignored) throw wrong(ignored.name, ignored.reason)
  if (isTls) readTls()
  return Object.freeze({
    listen: address('listen'),
    admin: address('admin'),
    etcd,
    cluster: objectName('cluster'),
    name: objectName('name'),
    state: text('state'),
    etcdTls: isTls ? readTls : null,
    logLevel: oneOf('log_level', logLevels),
    logFormat: oneOf('log_format', ['json', 'text'] as const),
    patience: { graceMs: milliseconds('grace'), drainMs: milliseconds('drain') },
  })
}

/** TLS settings that would have no effect are refused: the operator wants TLS and must not get an open connection. */
function wouldBeIgnored(
  etcd: readonly string[],
  isSet: (name: Name) => boolean,
): { readonly name: Name; readonly reason: string } | null {
  const inClear = etcd.filter((each) => !each.startsWith('https://'))
  const isMixed = inClear.length > 0 && inClear.length < etcd.length
  if (isMixed)
    return {
      name: 'etcd',
      reason: `mixes https:// with ${inClear.join(', ')}: write https:// before every endpoint`,
    }
  for (const [name, other] of tlsFiles.filter(([each]) => isSet(each))) {
    const how =
      etcd.length === 0 ? 'no etcd endpoint is set' : `etcd is asked in clear at ${inClear.join(', ')}`
    if (inClear.length === etcd.length)
      return {
        name,
        reason: `is for TLS, and ${how}: write https:// endpoints in LLAMERO_ETCD, or unset ${definitions[name].env}`,
      }
    if (other && !isSet(other)) return { name, reason: `needs ${definitions[other].env} beside it` }
  }
  return null
}

/** The admin token the CLI sends: the environment's, else the one a local instance wrote into its state directory. */
export function adminToken(lines: readonly SettingLine[]): string | null {
  const value = (name: Name) => lines.find((line) => line.name === name)?.value ?? ''
  if (value('admin_token') !== '') return value('admin_token')
  try {
    return readFileSync(adminTokenFile(value('state')), 'utf8').trim()
  } catch {
    return null // no instance runs here, or the file is another user's: the admin API will say what it needs
  }
}

/**
 * Whether a file descriptor leads to systemd's journal: $JOURNAL_STREAM holds the device and inode of the journal's stream
 * (systemd.exec(5)).
 */
export function isJournal(descriptor: 1 | 2): boolean {
  const named = environment['JOURNAL_STREAM']
  if (named === undefined) return false
  try {
    const { dev, ino } = fstatSync(descriptor)
    return named === `${dev}:${ino}`
  } catch {
    return false // it is closed
  }
}

/** The user's editor, as a shell command. */
export function editor(): string {
  return environment['VISUAL'] || environment['EDITOR'] || 'vi'
}

export function adminTokenFile(state: string): string {
  return join(state, 'admin-token')
}

/** Without LLAMERO_ETCD_CA, an authority that this machine trusts must have signed etcd's certificate. */
function machineAuthorities(): Buffer {
  return Buffer.from(getCACertificates().join('\n'))
}

function defaultState(): string {
  const { STATE_DIRECTORY: systemd, XDG_STATE_HOME: xdg } = environment
  return systemd?.split(':')[0] ?? join(xdg ?? join(homedir(), '.local', 'state'), 'llamero')
}

/** `--config`, `LLAMERO_CONFIG` or the system's file; only the last may be absent. */
async function readFile(flags: Flags): Promise<Record<string, string | undefined>> {
  const named = typeof flags['config'] === 'string' ? flags['config'] : environment['LLAMERO_CONFIG']
  const path = named ?? '/etc/llamero/llamero.yaml'
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (named === undefined && (error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw new SettingsError(`${path}: cannot be read: ${(error as NodeJS.ErrnoException).code}`)
  }
  if (text.replace(/^\s*#.*$/gm, '').trim() === '') return {} // a file of comments sets nothing
  // Loaded only when there is a file: its reader takes longer to load than the rest of a CLI command, and most machines have none.
  const [{ readDocument }, { z }] = await Promise.all([
    import('./fleet/documents/document.ts'),
    import('zod'),
  ])
  const value = z.union([z.string(), z.array(z.string())]).optional()
  const schema = z.strictObject(Object.fromEntries(names.map((name) => [name, value])))
  const parsed = readDocument(text, schema)
  if (!parsed.ok) throw new SettingsError(`${path}: ${describeFaults(parsed.faults)}`)
  const secret = names.find((name) => isSecret(name) && parsed.value[name] !== undefined)
  if (secret && isWorldReadable(statSync(path)))
    throw new SettingsError(
      `${path}: holds ${secret}, and every user of this machine can read it: run "chmod 600 ${path}", and make another token`,
    )
  return Object.fromEntries(
    Object.entries(parsed.value).map(([name, value]) => [name, [value].flat().join(',')]),
  )
}

function isSecret(name: Name): boolean {
  const { secret = false }: Definition = definitions[name]
  return secret
}

/** Warnings about files named by settings that other users can read. */
export async function exposedFiles(flags: Flags = {}): Promise<string[]> {
  const path = (await settingLines(flags)).find(({ name }) => name === 'etcd_key')?.value ?? ''
  const key = path === '' ? undefined : statSync(path, { throwIfNoEntry: false })
  if (!key || !isWorldReadable(key)) return []
  return [`every user of this machine can read the key ${path}: run "chmod o-rwx ${path}"`]
}

/**
 * Environment variables that begin like ours and are not. A name near to a setting's with a value that fits the setting
 * is a misspelling. All others may be another program's: Kubernetes sets LLAMERO_PORT=tcp://… and a dozen more in every
 * container beside a Service named "llamero" (kubernetes.io, "Accessing the Service: environment variables").
 *
 * @returns the variables that are no misspelling, for a warning.
 * @throws SettingsError for a misspelling.
 */
export function unknownVariables(variables: Readonly<NodeJS.ProcessEnv> = environment): string[] {
  const known = [...Object.values<Definition>(definitions).map(({ env }) => env), 'LLAMERO_CONFIG']
  const unknown = Object.keys(variables).filter(
    (name) => name.startsWith(prefix) && (!known.includes(name) || isDockerLink(name, variables)),
  )
  for (const name of unknown) {
    if (known.includes(name)) continue
    const meant = settingMeantBy(name, variables[name] ?? '')
    if (meant) throw new SettingsError(`${name}: is not a setting; did you mean ${meant}?`)
  }
  return unknown
}

/**
 * Whether Docker set the variable, for a link with the alias "llamero": LLAMERO_NAME=/container/llamero, beside
 * LLAMERO_PORT (docs.docker.com, "Legacy container links").
 */
function isDockerLink(name: string, variables: Readonly<NodeJS.ProcessEnv>): boolean {
  const isLinked = variables['LLAMERO_PORT']?.startsWith('tcp://') ?? false
  return isLinked && name === 'LLAMERO_NAME' && (variables[name]?.startsWith('/') ?? false)
}

/** The prefix that all names share says nothing about how near two of them are. */
const prefix = 'LLAMERO_'

function settingMeantBy(name: string, value: string): string | null {
  const fitting = Object.values<Definition>(definitions).filter(({ fits }) => fits(value))
  if (fitting.length === 0) return null
  const ending = name.slice(prefix.length)
  const nearest = closest(
    ending,
    fitting.map(({ env }) => env.slice(prefix.length)),
  )
  const isNear = distance(ending, nearest) <= Math.max(1, Math.floor(nearest.length / 3))
  return isNear ? prefix + nearest : null
}
