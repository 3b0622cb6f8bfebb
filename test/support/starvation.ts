import { readFileSync } from 'node:fs'

/**
 * Milliseconds for which the main thread of a process was ready to run and no core was free, since it began. What a
 * promise says of a process it says of a machine that lets it run: on one that is busy with other things, this much is
 * to be taken off. 0 where the kernel does not count it, so that nothing is taken off.
 */
export function starvedMs(pid: number): number {
  try {
    const [, waitedNs] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')
    return Number(waitedNs) / 1e6
  } catch {
    return 0
  }
}
