import type { CopyAnswer, LoadedAnswer, ModelAnswer, ModelDetail } from '../../api/models.ts'
import { age, bytes, processor, shortDigest, until } from '../terminal/format.ts'
import { type Column, facts, type TableLook } from '../terminal/table.ts'

/** The columns of `ollama ls`, then where the model is. @param now for ages. */
export function modelColumns(now: Date): readonly Column<ModelAnswer>[] {
  return [
    { title: 'NAME', cell: nameOf },
    { title: 'ID', cell: (model) => shortDigest(model.digest) },
    { title: 'SIZE', cell: (model) => bytes(model.size), align: 'right' },
    { title: 'MODIFIED', cell: (model) => `${age(model.modified_at, now)} ago` },
    { title: 'PARAMETERS', cell: (model) => model.parameter_size || '-', wide: true },
    { title: 'QUANTIZATION', cell: (model) => model.quantization || '-', wide: true },
    { title: 'NODES', cell: nodesOf },
    { title: 'LOADED ON', cell: (model) => model.loaded_on.join(', ') || '-' },
  ]
}

function nameOf({ name, alias_of }: ModelAnswer): string {
  return alias_of ? `${name} (alias of ${alias_of})` : name
}

/** Marks nodes with an older copy: their digest differs from the one shown. */
function nodesOf({ nodes, older_on = [] }: ModelAnswer): string {
  return nodes.map((node) => (older_on.includes(node) ? `${node} (older)` : node)).join(', ')
}

/** The columns of `ollama ps`, with the node. */
export function loadedColumns(now: Date): readonly Column<LoadedAnswer>[] {
  return [
    { title: 'NAME', cell: (model) => model.name },
    { title: 'NODE', cell: (model) => model.node },
    { title: 'ID', cell: (model) => shortDigest(model.digest) },
    { title: 'SIZE', cell: (model) => bytes(model.size), align: 'right' },
    { title: 'PROCESSOR', cell: (model) => processor(model.size, model.size_vram) },
    { title: 'CONTEXT', cell: (model) => String(model.context_length), align: 'right' },
    { title: 'UNTIL', cell: (model) => until(model.expires_at, now) },
  ]
}

/** Columns of `model where`: each node's copy on disk, then the one in memory. */
export function copyColumns(now: Date): readonly Column<CopyAnswer>[] {
  return [
    { title: 'NODE', cell: ({ node }) => node },
    { title: 'HEALTH', cell: ({ health }) => health },
    { title: 'COPY', cell: versionOf },
    { title: 'ID', cell: ({ disk }) => (disk ? shortDigest(disk.digest) : '-') },
    { title: 'SIZE', cell: ({ disk }) => (disk ? bytes(disk.size) : '-'), align: 'right' },
    { title: 'MODIFIED', cell: ({ disk }) => (disk ? `${age(disk.modified_at, now)} ago` : '-') },
    { title: 'IN MEMORY', cell: ({ memory }) => (memory ? bytes(memory.size) : '-'), align: 'right' },
    {
      title: 'PROCESSOR',
      cell: ({ memory }) => (memory ? processor(memory.size, memory.size_vram) : '-'),
      wide: true,
    },
    { title: 'CONTEXT', cell: ({ memory }) => String(memory?.context_length ?? '-'), align: 'right' },
    { title: 'UNTIL', cell: ({ memory }) => (memory ? until(memory.expires_at, now) : '-') },
  ]
}

/** The details of one model. */
export function modelFacts(model: ModelDetail, now: Date, { colour }: TableLook): string {
  return facts(
    [
      ['name', nameOf(model)],
      ['digest', model.digest],
      ['size', bytes(model.size)],
      ['modified', `${age(model.modified_at, now)} ago (${model.modified_at})`],
      ['family', model.family],
      ['parameters', model.parameter_size],
      ['quantization', model.quantization],
      ['capabilities', model.capabilities.join(', ')],
      ['nodes', nodesOf(model)],
      ['loaded on', model.loaded_on.join(', ')],
    ],
    colour,
  )
}

/** A model may be in the memory of a node after its copy on disk was removed. */
function versionOf({ disk }: CopyAnswer): string {
  if (!disk) return 'none on disk'
  return disk.newest ? 'newest' : 'older'
}
