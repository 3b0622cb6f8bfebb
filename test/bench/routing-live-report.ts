import type { Tally } from '../../lib/simulation/fleet/tally.ts'
import type { LiveResult, LiveRound } from './routing-live-round.ts'

type Found = Tally & Pick<LiveResult, 'loads' | 'unorderedLoads'>

/** Callers and nodes that were later, in real milliseconds, measured the machine and not the contestants. */
const mostLag = 10

const columns = `| | SLO % | TTFT p50 | p95 | p99 | e2e mean | loads | unordered | refused | failed | CPU s | callers' and nodes' CPU s | real s | late ms |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|`

/** What was found, for people. */
export class LiveTable {
  readonly #round: LiveRound
  readonly #source: string
  readonly #rows: string[] = []
  readonly #p95 = new Map<string, number>()
  #mostLag = 0

  constructor(round: LiveRound, source: string) {
    this.#round = round
    this.#source = source
  }

  /** @param result null: the contestant is not installed. */
  live(name: string, result: LiveResult | null): void {
    if (!result) {
      this.#rows.push(`| ${name} | not installed |${' |'.repeat(12)}`)
      return
    }
    const { ownCpu, othersCpu, seconds, lag, ttftP95 } = result
    this.#p95.set(name, ttftP95)
    this.#mostLag = Math.max(this.#mostLag, lag)
    const costs = [ownCpu, othersCpu, seconds, lag].map((value) => value.toFixed(1))
    this.#rows.push(rowOf(name, result, costs))
  }

  rehearsed(policy: string, found: Found): void {
    this.#rows.push(rowOf(`rehearsal: ${policy}`, found, ['', '', '', '']))
  }

  text(): string {
    const { requests, load, speed, seed, goal } = this.#round
    return `# Routing: the live run's results

Written by \`npm run bench:routing:live\` on ${new Date().toISOString().slice(0, 10)}, from ${this.#source}: ${requests} requests, the first tenth not
counted, load ${load}, seed ${seed}, eight nodes and six models behind real sockets, time ${speed} times as fast. Times are in seconds of the
nodes, so that they compare with the rehearsal's, but for the last four columns. SLO: first token within ${goal.ttft} s and
${goal.pace} tokens/s after it, of all requests. Loads are counted by the nodes; unordered are those that a request set off. Late: how much
callers and nodes were behind, at the 99th percentile of their steps of 1 ms.

${columns}
${this.#rows.join('\n')}
${this.#verdict()}`
  }

  #verdict(): string {
    const ours = this.#p95.get('llamero earliest-finish')
    const theirs = this.#p95.get('HAProxy leastconn')
    const lines: string[] = []
    if (ours && theirs)
      lines.push(
        `\nTTFT p95 of HAProxy leastconn is ${(theirs / ours).toFixed(0)} times that of llamero earliest-finish.\n`,
      )
    if (this.#mostLag > mostLag)
      lines.push('\nThe machine was too busy for this speed: the times are worth little. Try --speed 5.\n')
    return lines.join('')
  }
}

function rowOf(name: string, found: Found, costs: readonly string[]): string {
  const seconds = (value: number) => value.toFixed(value < 10 ? 2 : 1)
  const { slo, ttftP50, ttftP95, ttftP99, e2eMean, loads, unorderedLoads, refused, failed } = found
  const cells = [
    name,
    (100 * slo).toFixed(1),
    ...[ttftP50, ttftP95, ttftP99, e2eMean].map(seconds),
    ...[loads, unorderedLoads, refused, failed].map(String),
    ...costs,
  ]
  return `| ${cells.join(' | ')} |`
}
