import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { SettingName } from './definitions.ts'
import type { SettingLine } from './setting-lines.ts'

/** The admin token the CLI sends: the environment's, else the one a local instance wrote into its state directory. */
export function adminToken(lines: readonly SettingLine[]): string | null {
  const value = (name: SettingName) => lines.find((line) => line.name === name)?.value ?? ''
  if (value('admin_token') !== '') return value('admin_token')
  try {
    return readFileSync(adminTokenFile(value('state')), 'utf8').trim()
  } catch {
    return null // no instance runs here, or the file is another user's: the admin API will say what it needs
  }
}

export function adminTokenFile(state: string): string {
  return join(state, 'admin-token')
}
