import type { Command } from 'commander'
import { getModel } from '../changes/model-names.ts'
import { type RequestOptions, withOutput, withTimeout } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { table } from '../terminal/table.ts'
import { copyColumns, loadedColumns, modelColumns, modelFacts } from '../views/model-view.ts'
import { addModelJobs } from './model-jobs.ts'
import { addModelOrders } from './model-orders.ts'

/** `llamero model …`. */
export function fillModel(model: Command, invocation: Invocation): void {
  model.configureHelp({ ...model.configureHelp(), sortSubcommands: true })
  fillList(model.command('list').alias('ls').description('models on disk, over all nodes'), invocation)
  fillPs(model.command('ps').description('models in memory, per node'), invocation)
  withOutput(withTimeout(model.command('where <model>')))
    .description('the nodes that have a model, with its version and whether it is in memory')
    .action((name, options) => where(invocation, name, options))
  withOutput(withTimeout(model.command('show <model>')))
    .description('the details of one model')
    .action((name, options) => show(invocation, name, options))
  addModelOrders(model, invocation)
  addModelJobs(model, invocation)
}

/** `model list` and its short form `list`. */
export function fillList(command: Command, invocation: Invocation): void {
  withOutput(withTimeout(command)).action((options) => list(invocation, options))
}

/** `model ps` and its short form `ps`. */
export function fillPs(command: Command, invocation: Invocation): void {
  withOutput(withTimeout(command)).action((options) => ps(invocation, options))
}

async function list(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const { terminal, context } = invocation
  const answer = await invocation.admin(timeout).get('/models')
  terminal.show(answer, output, (look) => table(modelColumns(context.clock.date()), answer.models, look))
  if (answer.models.length === 0) terminal.say('no models on any node', 'llamero model pull MODEL')
}

async function ps(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const answer = await invocation.admin(timeout).get('/models/loaded')
  const now = invocation.context.clock.date()
  invocation.terminal.show(answer, output, (look) => table(loadedColumns(now), answer.loaded, look))
}

async function where(invocation: Invocation, name: string, { output, timeout }: RequestOptions) {
  const model = await getModel(invocation.admin(timeout), name)
  const now = invocation.context.clock.date()
  invocation.terminal.show(model, output, (look) => table(copyColumns(now), model.copies, look))
}

async function show(invocation: Invocation, name: string, { output, timeout }: RequestOptions) {
  const model = await getModel(invocation.admin(timeout), name)
  const now = invocation.context.clock.date()
  invocation.terminal.show(model, output, (look) => modelFacts(model, now, look))
}
