import { closest, distance } from 'fastest-levenshtein'
import { definitions, type SettingDefinition, SettingsError } from './definitions.ts'
import { environment } from './environment.ts'

/**
 * Environment variables that begin like ours and are not. A name near to a setting's with a value that fits the setting
 * is a misspelling. All others may be another program's: Kubernetes sets LLAMERO_PORT=tcp://… and a dozen more in every
 * container beside a Service named "llamero" (kubernetes.io, "Accessing the Service: environment variables").
 *
 * @returns the variables that are no misspelling, for a warning.
 * @throws SettingsError for a misspelling.
 */
export function unknownVariables(variables: Readonly<NodeJS.ProcessEnv> = environment): string[] {
  const known = [...Object.values<SettingDefinition>(definitions).map(({ env }) => env), 'LLAMERO_CONFIG']
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
export function isDockerLink(name: string, variables: Readonly<NodeJS.ProcessEnv>): boolean {
  const isLinked = variables['LLAMERO_PORT']?.startsWith('tcp://') ?? false
  return isLinked && name === 'LLAMERO_NAME' && (variables[name]?.startsWith('/') ?? false)
}

/** The prefix that all names share says nothing about how near two of them are. */
const prefix = 'LLAMERO_'

function settingMeantBy(name: string, value: string): string | null {
  const fitting = Object.values<SettingDefinition>(definitions).filter(({ fits }) => fits(value))
  if (fitting.length === 0) return null
  const ending = name.slice(prefix.length)
  const nearest = closest(
    ending,
    fitting.map(({ env }) => env.slice(prefix.length)),
  )
  const isNear = distance(ending, nearest) <= Math.max(1, Math.floor(nearest.length / 3))
  return isNear ? prefix + nearest : null
}
