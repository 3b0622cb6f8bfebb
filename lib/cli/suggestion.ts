import { didYouMean } from '../shared/did-you-mean.ts'
import { CliFailure, exits } from './cli-failure.ts'

/**
 * The result of `call`. When it finds nothing named `name`, the failure suggests the closest of the `known` names, or the
 * command that lists them.
 */
export async function suggesting<T>(
  name: string,
  call: Promise<T>,
  known: () => Promise<readonly string[]>,
  listCommand: string,
): Promise<T> {
  try {
    return await call
  } catch (error) {
    if (!(error instanceof CliFailure) || error.exit !== exits.notFound) throw error
    // Without the list there is no suggestion, and the first failure is reported.
    const meant = didYouMean(name, await known().catch(() => []))
    const hint = meant ? `did you mean "${meant}"?` : (error.hint ?? listCommand)
    throw new CliFailure(error.exit, error.message, hint, { cause: error })
  }
}
