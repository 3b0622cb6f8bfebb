import { fstatSync } from 'node:fs'

/** The environment of this process. No file outside of this folder reads it. */
export const environment = process.env

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
