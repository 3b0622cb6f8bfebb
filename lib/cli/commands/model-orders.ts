import { type Command, InvalidArgumentError, Option } from 'commander'
import type { ModelDetail } from '../../api/models.ts'
import { getModel, namedModel } from '../changes/model-names.ts'
import { labelsOf } from '../changes/node-changes.ts'
import {
  numberOption,
  type RequestOptions,
  repeated,
  withOutput,
  withTimeout,
  withYes,
} from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { bytes } from '../terminal/format.ts'
import { followJob } from './job-follow.ts'

/** `model pull` and its short form `pull`. */
export function fillPull(pull: Command, invocation: Invocation): void {
  withCopies(ordered(pull))
    .addHelpText(
      'after',
      `
Without --nodes, --copies and --label, the nodes that have the model get its newest version; a new
model goes to as many nodes as management.copies says, those with most room.

Examples:
  llamero model pull llama3.2:3b
  llamero model pull llama3.2:3b --copies 2
  llamero model pull qwen3:32b --label gpu=a100 --copies all
  llamero model pull qwen3:32b --nodes gpu-a,gpu-b --detach`,
    )
    .action((model, options) => order(invocation, 'pull', { model }, options))
}

/** `model rm` and its short form `rm`. */
export function fillRemove(rm: Command, invocation: Invocation): void {
  withYes(ordered(rm))
    .addHelpText(
      'after',
      `
Examples:
  llamero model rm llama3.2:3b
  llamero model rm llama3.2:3b --nodes gpu-b --yes`,
    )
    .action((model, options) => remove(invocation, model, options))
}

/** Commands that change models: `pull`, `rm`, `copy`, `load` and `unload`. */
export function addModelOrders(model: Command, invocation: Invocation): void {
  fillPull(model.command('pull <model>').description('pull a model from its registry to nodes'), invocation)
  const rm = model.command('rm <model>').alias('remove').description('remove a model from the disks of nodes')
  fillRemove(rm, invocation)
  ordered(model.command('copy <source> <destination>'))
    .alias('cp')
    .description('give a model a second name, on every node that has it')
    .addHelpText('after', '\nExample:\n  llamero model copy llama3.2:3b our-chat')
    .action((source, destination, options) =>
      order(invocation, 'copy', { model: source, destination }, options),
    )
  withCopies(ordered(model.command('load <model>')))
    .option('--num-ctx <tokens>', 'size of the context it is loaded with', numberOption(1))
    .description('load a model into the memory of nodes that have it')
    .addHelpText(
      'after',
      `
Examples:
  llamero model load llama3.2:3b
  llamero model load llama3.2:3b --copies all --num-ctx 8192`,
    )
    .action((name, { numCtx, ...options }) =>
      order(invocation, 'load', { model: name, num_ctx: numCtx }, options),
    )
  ordered(model.command('unload <model>'))
    .description('unload a model from the memory of nodes')
    .addHelpText('after', '\nExample:\n  llamero model unload llama3.2:3b --nodes gpu-b')
    .action((name, options) => order(invocation, 'unload', { model: name }, options))
}

interface OrderOptions extends RequestOptions {
  readonly nodes?: readonly string[]
  readonly label?: readonly string[]
  readonly copies?: number | 'all'
  readonly detach?: boolean
}

interface Order {
  readonly model: string
  readonly destination?: string
  readonly num_ctx?: number | undefined
}

/** Options of every command that becomes a job. */
function ordered(command: Command): Command {
  return withOutput(withTimeout(command))
    .addOption(
      new Option('--nodes <names>', 'only on these nodes, separated by commas')
        .argParser(namesOption)
        .conflicts(['copies', 'label']),
    )
    .option('--label <key=value>', 'only on nodes with this label; may be repeated', repeated)
    .option('--detach', "print the job's id and return, instead of following it")
}

function withCopies(command: Command): Command {
  return command.option('--copies <number>', 'on this many nodes, or "all"', copiesOption)
}

async function order(
  invocation: Invocation,
  action: 'pull' | 'delete' | 'copy' | 'load' | 'unload',
  fields: Order,
  { nodes, copies, label, detach, output, timeout }: OrderOptions,
): Promise<void> {
  const { terminal } = invocation
  const admin = invocation.admin(timeout)
  const body = { ...fields, nodes, copies, labels: label && labelsOf(label) }
  const accepted = await namedModel(
    admin,
    fields.model,
    admin.send({ method: 'post', path: `/models/${action}`, body }),
  )
  if (!detach) return followJob(invocation, admin, accepted.job, output)
  terminal.show(accepted, output, () => `${accepted.job}\n`)
  terminal.say(`${fields.model}: ${action} goes on as a job`, `llamero model jobs ${accepted.job} --watch`)
}

async function remove(
  invocation: Invocation,
  name: string,
  { yes, ...options }: OrderOptions & { readonly yes?: boolean },
): Promise<void> {
  const admin = invocation.admin(options.timeout)
  await invocation.consent(yes, async () => removal(await getModel(admin, name), options))
  await order(invocation, 'delete', { model: name }, options)
}

function removal({ name, size, nodes, loaded_on }: ModelDetail, { nodes: chosen, label }: OrderOptions) {
  const where = label
    ? `those of ${nodes.join(', ')} that have ${label.join(', ')}`
    : (chosen ?? nodes).join(', ')
  const loaded = loaded_on.length > 0 ? ` It is in memory on ${loaded_on.join(', ')}.` : ''
  return `Remove model ${name} (${bytes(size)}) from ${where}?${loaded}`
}

function namesOption(text: string): string[] {
  const names = text.split(',').map((name) => name.trim())
  if (names.includes('')) throw new InvalidArgumentError('Write the names of nodes, separated by commas.')
  return names
}

function copiesOption(text: string): number | 'all' {
  if (text === 'all') return text
  const copies = Number(text)
  if (Number.isInteger(copies) && copies >= 1) return copies
  throw new InvalidArgumentError('Write a whole number from 1, or "all".')
}
