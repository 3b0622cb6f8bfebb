import type { Figure, FigureName, PolicyStanding } from '../../lib/simulation/fleet/comparison.ts'
import { deviation, mean } from '../../lib/simulation/fleet/tally.ts'

/** How contestants did, as Markdown: one row each, the first is what the others are measured against. */
export function standingsTable(standings: readonly PolicyStanding[]): string {
  return `| policy | SLO % | diff | TTFT p50 | p95 | p99 | e2e mean | e2e p95 | loads | unordered | to victims | beyond slots % | refused | failed | worst tenant % | soon after % | cached % |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
${standings.map((standing) => row(standing, standings[0])).join('\n')}`
}

/** What the others have more than the first in points of a share, mean ± standard error of the differences seed by seed. */
export function difference(standing: PolicyStanding, first: PolicyStanding, name: FigureName): Figure {
  const each = standing.rounds.map((round, at) => round[name] - (first.rounds[at]?.[name] ?? 0))
  return { mean: mean(each), sd: deviation(each) / Math.sqrt(Math.max(1, each.length)) }
}

/** A share as percents. */
export function percent({ mean, sd }: Figure): string {
  return `${(100 * mean).toFixed(1)} ±${(100 * sd).toFixed(1)}`
}

export function seconds({ mean }: Figure): string {
  return mean.toFixed(mean < 10 ? 2 : 1)
}

function row(standing: PolicyStanding, first: PolicyStanding | undefined): string {
  const { policy, figures } = standing
  const whole = ({ mean }: Figure) => mean.toFixed(0)
  const cells = [
    policy,
    percent(figures.slo),
    !first || standing === first ? '-' : percent(difference(standing, first, 'slo')),
    ...[figures.ttftP50, figures.ttftP95, figures.ttftP99, figures.e2eMean, figures.e2eP95].map(seconds),
    ...[figures.loads, figures.unorderedLoads, figures.victimStarts].map(whole),
    percent(figures.beyondSlots),
    ...[figures.refused, figures.failed].map(whole),
    ...[figures.worstTenantSlo, figures.aftermathSlo].map(percent),
    (100 * figures.prefixHits.mean).toFixed(0),
  ]
  return `| ${cells.join(' | ')} |`
}
