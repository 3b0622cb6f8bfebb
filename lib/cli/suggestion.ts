import { didYouMean } from '../shared/did-you-mean.ts'
import { CliFailure, exits } from './failure.ts'

/**
 * The outcome of `call`; where it found nothing called `name`, the failure says which of the `known` names may have
 * been meant, or else the command that lists them.
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
    // The list is a courtesy: without it the first failure still stands.
    const meant = didYouMean(name, await known().catch(() => []))
    const hint = meant ? `did you mean "${meant}"?` : (error.hint ?? listCommand)
    throw new CliFailure(error.exit, error.message, hint, { cause: error })
  }
}
