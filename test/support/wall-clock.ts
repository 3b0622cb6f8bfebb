/**
 * Preloaded into a process (`wallClockJumps`), it lets the machine's wall clock jump for that process as an operator or NTP
 * may set it: one hour ahead at the first SIGUSR2, two hours back at the next. What counts time in dates breaks then.
 */
const hourMs = 3_600_000
const jumpsMs = [hourMs, -2 * hourMs]
const now = Date.now
let aheadMs = 0

Date.now = () => now() + aheadMs
globalThis.Date = new Proxy(Date, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length > 0 ? args : [Date.now()], newTarget),
})
process.on('SIGUSR2', () => {
  aheadMs += jumpsMs.shift() ?? 0
})
