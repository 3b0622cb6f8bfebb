import { readFileSync, statSync } from 'node:fs'
import { describeFaults } from '../fleet/documents/contents.ts'
import { isWorldReadable } from '../shared/process/secret-file.ts'
import {
  definitions,
  flagOf,
  type SettingDefinition,
  type SettingName,
  SettingsError,
  settingNames,
} from './definitions.ts'
import { environment } from './environment.ts'
import { isDockerLink } from './unknown-variables.ts'

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

export type Flags = Readonly<Record<string, string | boolean | undefined>>

/**
 * Every setting with its value and source.
 *
 * @param flags by flag name without dashes (`log-level`).
 * @throws SettingsError when the file cannot be read or names an unknown setting.
 */
export async function settingLines(flags: Flags = {}): Promise<SettingLine[]> {
  const file = await readFile(flags)
  return settingNames.map((name) => {
    const { env, fallback, help, secret = false }: SettingDefinition = definitions[name]
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
    import('../fleet/documents/document.ts'),
    import('zod'),
  ])
  const value = z.union([z.string(), z.array(z.string())]).optional()
  const schema = z.strictObject(Object.fromEntries(settingNames.map((name) => [name, value])))
  const parsed = readDocument(text, schema)
  if (!parsed.ok) throw new SettingsError(`${path}: ${describeFaults(parsed.faults)}`)
  const secret = settingNames.find((name) => isSecret(name) && parsed.value[name] !== undefined)
  if (secret && isWorldReadable(statSync(path)))
    throw new SettingsError(
      `${path}: holds ${secret}, and every user of this machine can read it: run "chmod 600 ${path}", and make another token`,
    )
  return Object.fromEntries(
    Object.entries(parsed.value).map(([name, value]) => [name, [value].flat().join(',')]),
  )
}

function isSecret(name: SettingName): boolean {
  const { secret = false }: SettingDefinition = definitions[name]
  return secret
}
