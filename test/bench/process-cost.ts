import { readdirSync, readFileSync } from 'node:fs'

/** CPU time a process and its children have used so far, all threads, in nanoseconds. */
export function cpuNs(pid: number): number {
  return sum(family(pid).flatMap((each) => threadsOf(each).map((thread) => onCpuNs(each, thread))))
}

/** Memory of a process and its children in RAM, in KiB. */
export function residentKiB(pid: number): number {
  return sum(
    family(pid).map((each) => Number(/^Rss: +(\d+)/m.exec(read(`/proc/${each}/smaps_rollup`))?.[1] ?? 0)),
  )
}

/** The process and its descendants: nginx works in a child. */
function family(pid: number): number[] {
  const children = threadsOf(pid).flatMap((thread) =>
    read(`/proc/${pid}/task/${thread}/children`).split(' ').filter(Boolean).map(Number),
  )
  return [pid, ...children.flatMap(family)]
}

function threadsOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`)
}

/** The scheduler's own account, exact to the nanosecond, where /proc/PID/stat counts in steps of 10 ms. */
function onCpuNs(pid: number, thread: string): number {
  return Number(read(`/proc/${pid}/task/${thread}/schedstat`).split(' ', 1)[0])
}

/** Empty for a thread that has just ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0)
}
