import { setTimeout as sleep } from 'node:timers/promises'
import type { FaultProxy } from '../support/fault-proxy.ts'
import type { Campaign } from './campaign.ts'

/**
 * Milliseconds from the end of a fault until every copy is right again: a call that began just before has the longest
 * deadline, 0.3 of a TTL of 10 s, once etcd was asked in vain; then come a pause, a connection and a list.
 */
export const healedMs = 5000
/**
 * A connection that died in silence is found by gRPC's ping (5.5 s and 2 s for its answer) or by the informer's probe
 * (10 s ± 20 % and 0.2 s of grace).
 */
const silentDeathMs = 12_200 + healedMs

interface Scenario {
  readonly name: string
  /** Makes the fault, changes things meanwhile, and heals. */
  readonly run: (campaign: Campaign) => Promise<void>
  readonly withinMs: number
}

function scenario(
  name: string,
  run: (campaign: Campaign) => Promise<void>,
  withinMs: number = healedMs,
): Scenario {
  return { name, run, withinMs }
}

/** Everything that happens to all three at once. */
function each(campaign: Campaign, act: (proxy: FaultProxy) => void): void {
  for (const proxy of campaign.proxies) act(proxy)
}

/** Faults of the way to etcd (docs/etcd.md#faults). */
export const scenarios: readonly Scenario[] = [
  scenario('cut off during changes', async (campaign) => {
    each(campaign, (proxy) => proxy.cut())
    await campaign.churn(30)
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('cut off while keys are deleted, and deleted and made again', async (campaign) => {
    await campaign.put('deleted', 'again')
    await campaign.converge(healedMs)
    each(campaign, (proxy) => proxy.cut())
    await campaign.remove('deleted', 'again')
    await campaign.put('again')
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('cut off while a lease ends', async (campaign) => {
    const end = await campaign.putLeased('leased')
    await campaign.converge(healedMs)
    each(campaign, (proxy) => proxy.cut())
    await end()
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('cut off while etcd is compacted', async (campaign) => {
    each(campaign, (proxy) => proxy.cut())
    await campaign.churn(30)
    await campaign.compact()
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('compacted again and again during changes and cuts', async (campaign) => {
    for (let round = 0; round < 5; round++) {
      await campaign.churn(10)
      await campaign.compact()
      each(campaign, (proxy) => proxy.drop())
    }
  }),
  scenario('cut twice, the second time at some byte of the recovery', async (campaign) => {
    for (let round = 0; round < 2; round++) {
      each(campaign, (proxy) => {
        proxy.script({ cutAt: campaign.draw(400) }, { cutAt: campaign.draw(400) })
        proxy.drop()
      })
      await campaign.churn(5)
      await campaign.following()
    }
  }),
  scenario('cut within an answer of many keys', async (campaign) => {
    const many = Array.from({ length: 120 }, (_, n) => `many/${n}`)
    await campaign.put(...many)
    each(campaign, (proxy) => {
      proxy.script({ cutAt: 5000 + campaign.draw(5000) })
      proxy.drop()
    })
    await campaign.remove(...many.slice(0, 60))
  }),
  scenario('killed and started again', async ({ etcd }) => {
    await etcd.kill('SIGKILL')
    await sleep(700)
    await etcd.restart()
  }),
  scenario('frozen for two seconds', async (campaign) => {
    await campaign.etcd.kill('SIGSTOP')
    await sleep(2000)
    await campaign.etcd.kill('SIGCONT')
    await campaign.reachable()
    await campaign.churn(10)
  }),
  scenario('wiped', async (campaign) => {
    await campaign.wipe()
    await campaign.churn(5)
  }),
  scenario('answers held back', async (campaign) => {
    each(campaign, (proxy) => proxy.set({ mute: 'down' }))
    await campaign.churn(10)
    await sleep(1500)
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('requests held back', async (campaign) => {
    each(campaign, (proxy) => {
      proxy.set({ mute: 'up' })
      proxy.script({ mute: 'up' })
    })
    await campaign.churn(10)
    await sleep(1500)
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('behind an endpoint that accepts and stays silent', async (campaign) => {
    each(campaign, (proxy) => {
      proxy.set({ accept: 'silent' })
      proxy.drop()
    })
    await campaign.churn(10)
    await sleep(1500)
    each(campaign, (proxy) => proxy.heal())
  }),
  scenario('slow', async (campaign) => {
    each(campaign, (proxy) => {
      proxy.set({ delayMs: 150 })
      proxy.drop()
    })
    await campaign.churn(30)
  }),
  scenario(
    'half open',
    async (campaign) => {
      each(campaign, (proxy) => proxy.heal())
      await campaign.converge(healedMs)
      await campaign.following()
      each(campaign, (proxy) => proxy.forget())
      await campaign.churn(10)
    },
    silentDeathMs,
  ),
]

/** One fault drawn at random, made to one informer or more, and healed. */
export async function randomFault(campaign: Campaign): Promise<void> {
  const faults: ((proxy: FaultProxy) => void)[] = [
    (proxy) => proxy.cut(),
    (proxy) => proxy.drop(),
    (proxy) => proxy.set({ mute: 'up' }),
    (proxy) => proxy.set({ mute: 'down' }),
    (proxy) => proxy.set({ delayMs: campaign.draw(200) }),
    (proxy) => {
      proxy.set({ accept: 'silent' })
      proxy.drop()
    },
    (proxy) => {
      proxy.script({ cutAt: campaign.draw(3000) })
      proxy.drop()
    },
  ]
  for (const proxy of campaign.proxies)
    if (campaign.draw(3) > 0) faults[campaign.draw(faults.length)]?.(proxy)
  await campaign.churn(campaign.draw(20))
  if (campaign.draw(4) === 0) await campaign.compact()
  await sleep(campaign.draw(600))
  each(campaign, (proxy) => proxy.heal())
  await campaign.churn(campaign.draw(3))
}
