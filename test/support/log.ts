import type { Log } from '../../lib/shared/log.ts'
import type { LoggedLine } from './gateway.ts'

/** A log that keeps its lines. */
export function recordingLog(): { readonly log: Log; readonly lines: readonly LoggedLine[] } {
  const lines: LoggedLine[] = []
  const keep =
    (level: string) =>
    (message: string, fields: Readonly<Record<string, unknown>> = {}) =>
      void lines.push({ level, message, fields })
  return {
    log: { error: keep('error'), warn: keep('warn'), info: keep('info'), debug: keep('debug') },
    lines,
  }
}
