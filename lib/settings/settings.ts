import { readFileSync, statSync } from 'node:fs'
import { getCACertificates } from 'node:tls'
import { isStoreName, storeNameRule } from '../fleet/documents/names.ts'
import { parseDuration } from '../shared/duration.ts'
import { type LogFormat, type LogLevel, logLevels } from '../shared/log.ts'
import { type Address, parseAddress } from '../shared/net/address.ts'
import { isWorldReadable } from '../shared/process/secret-file.ts'
import { definitions, endpoint, type SettingName, SettingsError } from './definitions.ts'
import { type Flags, settingLines } from './setting-lines.ts'

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

/** The files for TLS to etcd, each with the other file that it needs. */
const tlsFiles = [
  ['etcd_ca', null],
  ['etcd_cert', 'etcd_key'],
  ['etcd_key', 'etcd_cert'],
] as const satisfies readonly (readonly [SettingName, SettingName | null])[]

const longestPatienceMs = 24 * 3_600_000

/** The settings of `llamero serve`, checked. @throws SettingsError naming the first wrong one. */
export async function loadSettings(flags: Flags = {}): Promise<Settings> {
  const lines = new Map((await settingLines(flags)).map((line) => [line.name as SettingName, line]))
  const text = (name: SettingName) => lines.get(name)?.value ?? ''
  const wrong = (name: SettingName, expected: string) => {
    const line = lines.get(name)
    const origin =
      line?.source === 'flag' ? line.flag : line?.source === 'env' ? line.env : `${name} (${line?.source})`
    return new SettingsError(`${origin}: "${text(name)}" ${expected}`)
  }
  const address = (name: SettingName) => {
    const parsed = parseAddress(text(name))
    if (!parsed) throw wrong(name, 'is not HOST:PORT, such as 127.0.0.1:11434')
    return parsed
  }
  const objectName = (name: SettingName) => {
    if (!isStoreName(text(name))) throw wrong(name, `is not a name: ${storeNameRule}`)
    return text(name)
  }
  const oneOf = <T extends string>(name: SettingName, known: readonly T[]) => {
    const value = known.find((each) => each === text(name))
    if (!value) throw wrong(name, `is not one of ${known.join(', ')}`)
    return value
  }
  const milliseconds = (name: SettingName) => {
    const ms = parseDuration(text(name))
    if (ms === null || ms > longestPatienceMs)
      throw wrong(name, 'is not a duration with its unit, such as "30s", of 24 hours at most')
    return ms
  }
  const pem = (name: SettingName) => {
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
  isSet: (name: SettingName) => boolean,
): { readonly name: SettingName; readonly reason: string } | null {
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

/** Without LLAMERO_ETCD_CA, an authority that this machine trusts must have signed etcd's certificate. */
function machineAuthorities(): Buffer {
  return Buffer.from(getCACertificates().join('\n'))
}

/** Warnings about files named by settings that other users can read. */
export async function exposedFiles(flags: Flags = {}): Promise<string[]> {
  const path = (await settingLines(flags)).find(({ name }) => name === 'etcd_key')?.value ?? ''
  const key = path === '' ? undefined : statSync(path, { throwIfNoEntry: false })
  if (!key || !isWorldReadable(key)) return []
  return [`every user of this machine can read the key ${path}: run "chmod o-rwx ${path}"`]
}
