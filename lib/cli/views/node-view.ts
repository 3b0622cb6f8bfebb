import type { NodeAnswer } from '../../api/nodes.ts'
import { describeFaults } from '../../fleet/documents/contents.ts'
import { age, bytes, pairs } from '../terminal/format.ts'
import { type Column, facts, type TableLook } from '../terminal/table.ts'

/** What the instance that answers finds wrong with a node itself. */
export function marksOf({ frozen, breaker }: Pick<NodeAnswer, 'frozen' | 'breaker'>): string[] {
  return [...(frozen ? ['frozen'] : []), ...(breaker === 'closed' ? [] : [`breaker ${breaker}`])]
}

const healthOf = (node: NodeAnswer) => {
  const marks = marksOf(node)
  return marks.length === 0 ? node.health : `${node.health} (${marks.join(', ')})`
}

const frozenOf = ({ frozen }: NodeAnswer) =>
  frozen
    ? 'frozen: it accepts connections and answers nothing; check whether its machine or Ollama there hangs'
    : ''

const slotsOf = ({ slots, slots_by_model: byModel = {} }: NodeAnswer) =>
  new Set(Object.values(byModel)).size > 1 ? pairs(byModel) : `${slots} per model`

const rejectionOf = ({ rejected = [] }: NodeAnswer) =>
  rejected.length === 0 ? '' : `document rejected: ${describeFaults(rejected)}`

/** The state; marked when the last change was rejected and the version before is in force. */
const stateOf = (node: NodeAnswer) =>
  node.rejected?.length && node.state !== 'rejected' ? `${node.state} (change rejected)` : node.state

/** Why a node does not serve as its operator wants; empty when it does. */
const troubleOf = (node: NodeAnswer) =>
  joined(
    rejectionOf(node),
    node.health === 'up' || node.state === 'rejected' ? '' : node.reason,
    frozenOf(node),
  )

const joined = (...parts: readonly string[]) => parts.filter((part) => part !== '').join('; ')

/** Columns of `node list`; the column of reasons only when there is one. @param now for ages. */
export function nodeColumns(now: Date, nodes: readonly NodeAnswer[]): readonly Column<NodeAnswer>[] {
  const isTroubled = nodes.some((node) => troubleOf(node) !== '')
  return [
    { title: 'NAME', cell: (node) => node.name },
    { title: 'STATE', cell: stateOf },
    { title: 'HEALTH', cell: healthOf },
    { title: 'RUNNING', cell: (node) => String(node.running), align: 'right' },
    { title: 'SLOTS', cell: (node) => String(node.slots), align: 'right', wide: true },
    { title: 'WEIGHT', cell: (node) => String(node.weight), align: 'right' },
    { title: 'LOADED', cell: (node) => node.loaded.join(', ') || '-' },
    { title: 'MODELS', cell: (node) => String(node.models.length), align: 'right', wide: true },
    { title: 'VRAM', cell: (node) => bytes(node.vram_bytes), align: 'right', wide: true },
    { title: 'VERSION', cell: (node) => node.version || '-' },
    { title: 'SINCE', cell: (node) => age(node.since, now) },
    ...(isTroubled ? [{ title: 'REASON', cell: (node: NodeAnswer) => troubleOf(node) || '-' }] : []),
    { title: 'URL', cell: (node) => node.url, wide: true },
    { title: 'SOURCE', cell: (node) => node.source, wide: true },
    { title: 'LABELS', cell: (node) => pairs(node.labels) || '-', wide: true },
    ...(isTroubled
      ? []
      : [{ title: 'REASON', cell: (node: NodeAnswer) => node.reason || '-', wide: true as const }]),
  ]
}

/** The details of one node. */
export function nodeFacts(node: NodeAnswer, now: Date, { colour }: TableLook): string {
  return facts(
    [
      ['name', node.name],
      ['url', node.url],
      ['state', stateOf(node)],
      ...(node.rejected?.length ? [['document', rejectionOf(node)] as const] : []),
      ['health', healthOf(node)],
      ['reason', joined(node.reason, frozenOf(node))],
      ['since', node.since === null ? '' : `${age(node.since, now)} (${node.since})`],
      ['version', node.version],
      ['weight', String(node.weight)],
      ['slots', slotsOf(node)],
      ['labels', pairs(node.labels)],
      ['source', node.source],
      ['running', node.running === 0 ? '0' : `${node.running} (${pairs(node.running_by_instance)})`],
      ['loaded', node.loaded.join(', ')],
      ['vram', bytes(node.vram_bytes)],
      ['models', node.models.join(', ')],
    ],
    colour,
  )
}
