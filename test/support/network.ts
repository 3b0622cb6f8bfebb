import { execFileSync, spawnSync } from 'node:child_process'
import type { Place } from './processes.ts'

/** Set for the process that runs inside. */
const insideVariable = 'TEST_INSIDE_NETWORK'
const network = '10.77.0'
/** A hardware address that no interface has: what is sent to it is lost without a word, as on a cut cable. */
const lostAddress = '02:00:00:00:00:01'
/** A bridge takes the lowest hardware address of its ports unless it has its own: hosts would lose it as others are added. */
const switchAddress = '02:00:00:00:00:02'

/**
 * Runs the calling test file again as root of user, mount and network namespaces of its own, where it may make hosts; ends
 * the process that called, with the same exit code. Returns only inside. Any user may do it, and nothing outside notices.
 *
 * @throws Error when the kernel refuses: `sysctl kernel.unprivileged_userns_clone` or `user.max_user_namespaces` is 0.
 */
export function enterNetwork(): void {
  if (process.env[insideVariable] === '1') {
    // Namespaces of hosts are named by files there; root of this user namespace has its own.
    ip('link', 'set', 'lo', 'up')
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run'])
    return
  }
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)]
  const { status, error } = spawnSync('unshare', ['--map-root-user', '--net', '--mount', ...command], {
    stdio: 'inherit',
    env: { ...process.env, [insideVariable]: '1' },
  })
  if (error) throw error
  process.exit(status ?? 1)
}

/** A machine of its own: one network namespace with one address. */
export interface Host extends Place {
  /** From now on nothing that this host sends to those addresses arrives; connections learn of it by silence alone. */
  cutOffFrom(...addresses: readonly string[]): void
  /** Everything arrives again. */
  heal(): void
}

/** Hosts on one switch. The test itself is on it too, at as many addresses as it wants. */
export class Network {
  #hosts = 0
  #own = 100

  constructor() {
    ip('link', 'add', 'switch', 'address', switchAddress, 'type', 'bridge')
    ip('link', 'set', 'switch', 'up')
  }

  /** One more address of the test's own process, for what it shall serve. */
  ownAddress(): string {
    this.#own++
    const address = `${network}.${this.#own}`
    ip('address', 'add', `${address}/24`, 'dev', 'switch')
    return address
  }

  host(): Host {
    this.#hosts++
    const name = `host${this.#hosts}`
    const address = `${network}.${this.#hosts}`
    ip('netns', 'add', name)
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
    ip('link', 'set', name, 'master', 'switch', 'up')
    ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0')
    for (const device of ['lo', 'eth0']) ip('-n', name, 'link', 'set', device, 'up')
    const lost = new Set<string>()
    const neighbour = (...rest: string[]) => ip('-n', name, 'neighbour', ...rest, 'dev', 'eth0')
    return {
      address,
      command: ['ip', 'netns', 'exec', name],
      cutOffFrom: (...addresses) => {
        for (const each of addresses) {
          neighbour('replace', each, 'lladdr', lostAddress, 'nud', 'permanent')
          lost.add(each)
        }
      },
      heal: () => {
        for (const each of lost) neighbour('delete', each)
        lost.clear()
      },
    }
  }
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args)
}
