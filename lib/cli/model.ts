import type { Command } from 'commander'
import type { LoadedAnswer, ModelAnswer } from './answers.ts'
import { age, bytes, processor, shortDigest, until } from './format.ts'
import type { Invocation } from './invocation.ts'
import { type RequestOptions, withOutput, withTimeout } from './options.ts'
import { type Column, table } from './table.ts'

/** `llamero model …`, and `llamero list` and `llamero ps` for those who know them from Ollama. */
export function addModelCommands(program: Command, invocation: Invocation): void {
  const model = program.command('model').description('the models on the nodes')
  for (const parent of [model, program]) {
    const short = parent === program
    withOutput(withTimeout(parent.command('list')))
      .alias('ls')
      .description(short ? 'short for: model list' : 'models on disk, over all nodes')
      .action((options) => list(invocation, options))
    withOutput(withTimeout(parent.command('ps')))
      .description(short ? 'short for: model ps' : 'models in memory, per node')
      .action((options) => ps(invocation, options))
  }
}

async function list(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const { terminal, context } = invocation
  const answer = await invocation.admin(timeout).get<{ models: ModelAnswer[] }>('/models')
  terminal.show(answer, output, (look) => table(modelColumns(context.clock.date()), answer.models, look))
  if (answer.models.length === 0) terminal.say('no models on any node', 'llamero node list')
}

async function ps(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const answer = await invocation.admin(timeout).get<{ loaded: LoadedAnswer[] }>('/models/loaded')
  const now = invocation.context.clock.date()
  invocation.terminal.show(answer, output, (look) => table(loadedColumns(now), answer.loaded, look))
}

/** The columns of `ollama ls`, then where the model is. */
function modelColumns(now: Date): readonly Column<ModelAnswer>[] {
  return [
    { title: 'NAME', cell: (model) => model.name },
    { title: 'ID', cell: (model) => shortDigest(model.digest) },
    { title: 'SIZE', cell: (model) => bytes(model.size), align: 'right' },
    { title: 'MODIFIED', cell: (model) => `${age(model.modified_at, now)} ago` },
    { title: 'PARAMETERS', cell: (model) => model.parameter_size || '-', wide: true },
    { title: 'QUANTIZATION', cell: (model) => model.quantization || '-', wide: true },
    { title: 'NODES', cell: nodesOf },
    { title: 'LOADED ON', cell: (model) => model.loaded_on.join(', ') || '-' },
  ]
}

/** Those with an older copy than the others are marked: it is not the one whose digest is shown. */
function nodesOf({ nodes, older_on = [] }: ModelAnswer): string {
  return nodes.map((node) => (older_on.includes(node) ? `${node} (older)` : node)).join(', ')
}

/** The columns of `ollama ps`, with the node. */
function loadedColumns(now: Date): readonly Column<LoadedAnswer>[] {
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
