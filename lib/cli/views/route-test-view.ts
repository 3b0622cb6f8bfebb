import type { RouteTestAnswer } from '../../api/route-test.ts'
import { pairs } from '../terminal/format.ts'
import { type Column, facts, type TableLook, table } from '../terminal/table.ts'
import { candidateTable, exclusionText, expectation } from './estimate-view.ts'

/** The path of a test that names none; an older instance knows no other. */
const defaultPath = '/api/chat'

type Row = RouteTestAnswer['nodes'][number]

/** The output of `route test`: the route and the model it leads to, a verdict on each node, and the choice. */
export function routeTestView(answer: RouteTestAnswer, look: TableLook): string {
  const { asked, path = defaultPath, tenant, route, wanted, num_ctx, panic, nodes, choice } = answer
  const labels = pairs(answer.labels ?? {})
  const columns: readonly Column<Row>[] = [
    { title: 'NODE', cell: ({ name }) => name },
    { title: 'VERDICT', cell: ({ name, excluded }) => verdict(name, excluded, choice) },
    { title: 'WHY', cell: why },
    { title: 'RUNNING', cell: ({ running, slots }) => `${running}/${slots}`, align: 'right' },
    { title: 'WEIGHT', cell: ({ weight }) => String(weight), align: 'right' },
  ]
  const head = facts(
    [
      ['asked', `${asked}, by tenant ${tenant}${path === defaultPath ? '' : `, on ${path}`}`],
      ['route', route ?? 'none matches'],
      ['models', wanted.join(', then ')],
      ['model', modelLine(answer)],
      ...(labels ? [['nodes', `those labelled ${labels}`] as const] : []),
      ...(answer.class ? [['class', answer.class] as const] : []),
      ...(num_ctx ? [['num_ctx', String(num_ctx)] as const] : []),
      ...(panic ? [['panic', panicLine] as const] : []),
    ],
    look.colour,
  )
  const list = nodes.length === 0 ? '' : table(columns, nodes, look)
  const { estimate } = answer
  const costs = estimate?.candidates?.length ? `\n${candidateTable(estimate, look)}\n` : ''
  const tail = facts(
    [['choice', choiceLine(answer)], ...(estimate ? [['start', expectation(estimate)] as const] : [])],
    look.colour,
  )
  return `${head}${list}${costs}${tail}`
}

const panicLine =
  'most nodes that have the model are unhealthy, so those that failed requests are used too; those that refuse connections are not'

function modelLine({ wanted, model }: RouteTestAnswer): string {
  if (model === null) return 'none: no node has any of them'
  return model === wanted[0] ? model : `${model}, because no node can serve ${wanted[0]} now`
}

function verdict(name: string, excluded: string | null, choice: RouteTestAnswer['choice']): string {
  if (name === choice?.node) return 'chosen'
  return excluded === null ? 'possible' : 'excluded'
}

function why(row: Row): string {
  const { excluded, loaded, other_variant } = row
  if (excluded !== null) return exclusionText({ ...row, excluded })
  const what = loaded && other_variant ? 'loaded with other options' : loaded ? 'loaded' : 'on disk'
  return `has the model ${what}${slowness(row)}`
}

/** A slow node costs more, but is never excluded. */
function slowness({ health, health_reason: reason }: Row): string {
  return health === 'slow' ? `; slow${reason ? `: ${reason}` : ''}` : ''
}

function choiceLine({ choice, refusal, estimate }: RouteTestAnswer): string {
  if (estimate?.refused) return 'none'
  if (choice) return `${choice.node} (${choice.reason}); nothing was sent`
  return refusal === 'full' ? 'none yet: the request would wait for a slot' : 'none'
}
