import { readFile } from 'node:fs/promises'
import type { Log } from '../log.ts'
import { listenBacklog } from './address.ts'

/** Linux only; each network namespace, and so each container, has its own value. */
const file = '/proc/sys/net/core/somaxconn'

/** Warns when the kernel cuts the listen backlog that the listeners ask for. Does nothing on systems without /proc. */
export async function checkSomaxconn(log: Log, path = file): Promise<void> {
  const text = await readFile(path, 'utf8').catch(() => '')
  const somaxconn = Number.parseInt(text, 10)
  if (!(somaxconn < listenBacklog)) return
  log.warn('net.core.somaxconn is too low: bursts of new connections will be reset', {
    somaxconn,
    wanted: listenBacklog,
    hint: `sysctl -w net.core.somaxconn=${listenBacklog}`,
  })
}
