import { homedir, hostname } from 'node:os'
import { join } from 'node:path'
import { isStoreName } from '../fleet/documents/names.ts'
import { parseDuration } from '../shared/duration.ts'
import { logLevels } from '../shared/log.ts'
import { parseAddress } from '../shared/net/address.ts'
import { environment } from './environment.ts'

/** A wrong setting; the message says which one, where it came from, and what was expected. */
export class SettingsError extends Error {
  override readonly name = 'SettingsError'
}

export interface SettingDefinition {
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

export const endpoint = /^(https?:\/\/)?[^/\s@]+:\d+\/?$/

/** The settings, in the order they are shown. */
export const definitions = {
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
    fits: isStoreName,
  },
  name: {
    env: 'LLAMERO_NAME',
    fallback: hostname,
    fallbackText: 'the host name',
    help: 'name of this instance, unique in the cluster',
    fits: isStoreName,
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
} as const satisfies Record<string, SettingDefinition>

export type SettingName = keyof typeof definitions
export const settingNames = Object.keys(definitions) as SettingName[]

/** Settings that only the CLI reads: `serve` has no flag for them. */
const cliOnly: readonly SettingName[] = ['admin_url', 'admin_token']

/** Every setting as the documentation shows it, on any machine: `flag` is "" for settings that only the CLI reads. */
export const settingReference = settingNames.map((name) => {
  const { env, fallback, fallbackText, help }: SettingDefinition = definitions[name]
  return { name, flag: flagOf(name), env, fallback: fallbackText ?? fallback(), help }
})

export function flagOf(name: SettingName): string {
  return cliOnly.includes(name) ? '' : `--${name.replace('_', '-')}`
}

function defaultState(): string {
  const { STATE_DIRECTORY: systemd, XDG_STATE_HOME: xdg } = environment
  return systemd?.split(':')[0] ?? join(xdg ?? join(homedir(), '.local', 'state'), 'llamero')
}
