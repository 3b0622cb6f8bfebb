/**
 * Loaded before a program (`node --import`), it has time pass so many times as fast for it: its monotonic clock and its
 * timers. So every constant of llamero is scaled like the nodes it works with, and nothing else of it is changed; dates
 * are not, nor the timeouts of sockets, which the kernel and Node keep.
 */
const speed = Number(process.env['BENCH_SPEED'])
const { setTimeout, setInterval } = globalThis
const now = performance.now.bind(performance)

performance.now = () => now() * speed
globalThis.setTimeout = faster(setTimeout)
globalThis.setInterval = faster(setInterval)

function faster<Start extends typeof setTimeout | typeof setInterval>(start: Start): Start {
  const begin = (task: () => void, ms = 0, ...rest: unknown[]) =>
    (start as (...all: unknown[]) => NodeJS.Timeout)(task, ms / speed, ...rest)
  return Object.assign(begin, start)
}
