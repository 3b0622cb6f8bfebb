import type { JobAnswer } from '../../api/jobs.ts'
import { age, bytes } from '../terminal/format.ts'
import { type Column, facts, type TableLook, table } from '../terminal/table.ts'

/** Columns of `model jobs`. @param now for ages. */
export function jobColumns(now: Date): readonly Column<JobAnswer>[] {
  return [
    { title: 'ID', cell: ({ id }) => id },
    { title: 'ACTION', cell: ({ action }) => action },
    { title: 'MODEL', cell: ({ model }) => model },
    { title: 'STATE', cell: ({ state }) => state },
    { title: 'DONE', cell: doneOf, align: 'right' },
    { title: 'NODES', cell: ({ nodes }) => Object.keys(nodes).join(', ') },
    { title: 'AGE', cell: ({ created }) => age(created, now) },
    { title: 'ENDED', cell: ({ ended }) => age(ended, now), wide: true },
    { title: 'TENANT', cell: ({ tenant }) => tenant, wide: true },
  ]
}

/** The details of one job. */
export function jobFacts(job: JobAnswer, now: Date, look: TableLook): string {
  const { id, action, model, state, tenant, created, ended, nodes } = job
  const head = facts(
    [
      ['id', id],
      ['action', action],
      ['model', model],
      ['state', state],
      ['tenant', tenant],
      ['created', `${age(created, now)} ago (${created})`],
      ['ended', ended === null ? '' : `${age(ended, now)} ago (${ended})`],
    ],
    look.colour,
  )
  const rows = Object.entries(nodes).map(([node, report]) => ({ node, ...report }))
  return `${head}\n${table(nodeColumns, rows, look)}`
}

const nodeColumns: readonly Column<{ readonly node: string } & JobAnswer['nodes'][string]>[] = [
  { title: 'NODE', cell: ({ node }) => node },
  { title: 'STATE', cell: ({ state }) => state },
  { title: 'STATUS', cell: ({ status }) => status || '-' },
  { title: 'COMPLETED', cell: ({ completed, total }) => sizeOf(completed, total), align: 'right' },
  { title: 'TOTAL', cell: ({ total }) => sizeOf(total, total), align: 'right' },
  { title: 'ERROR', cell: ({ error }) => error ?? '-' },
]

/** "-" without a size in bytes. */
function sizeOf(count: number, total: number): string {
  return total === 0 ? '-' : bytes(count)
}

function doneOf({ nodes }: JobAnswer): string {
  const reports = Object.values(nodes)
  return `${reports.filter(({ state }) => state === 'done').length}/${reports.length}`
}
