import { type Command, InvalidArgumentError } from 'commander'
import type { RouteAnswer } from '../../api/routes.ts'
import type { AdminClient } from '../admin-client.ts'
import { routeChanges, routePath, settableFields } from '../changes/route-changes.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { type RequestOptions, withOutput, withTimeout, withYes } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { suggesting } from '../suggestion.ts'
import { pairs } from '../terminal/format.ts'
import { type Column, printable, table } from '../terminal/table.ts'
import { termsHelp } from '../views/estimate-view.ts'
import { routeTestView } from '../views/route-test-view.ts'

/** `llamero route …`: which model answers, and on which nodes. */
export function fillRoute(route: Command, invocation: Invocation): void {
  withOutput(withTimeout(route.command('list')))
    .alias('ls')
    .description('all routes, in the order in which they are tried')
    .action((options) => list(invocation, options))
  withOutput(withTimeout(route.command('set <name> <field=value...>')))
    .description('create or change a route; "field=" removes a field')
    .addHelpText('after', `\nFields: ${settableFields.join(', ')} (comma-separated), nodes.LABEL`)
    .action((name, assignments, options) => set(invocation, name, assignments, options))
  withOutput(withTimeout(route.command('test [model]')))
    .description('explain where a request for a model would go now; sends nothing')
    .option('--model <model>', 'the model, in place of the argument')
    .option('--path <path>', 'the path of the request (default: /api/chat)')
    .option('--tenant <tenant>', 'tenant of the request')
    .option('--class <class>', 'the priority class of the key')
    .option('--num-ctx <tokens>', 'options.num_ctx of the request; only paths of /api know it', tokenCount)
    .addHelpText(
      'after',
      `${termsHelp}

Examples:
  llamero route test llama3.2:3b
  llamero route test llama3.2:3b --path /v1/chat/completions
  llamero route test --model llama3.2:3b --tenant web --class interactive --num-ctx 8192`,
    )
    .action((model, options) => test(invocation, model, options))
  withYes(withTimeout(route.command('remove <name>')))
    .alias('rm')
    .description('remove a route')
    .action((name, options) => remove(invocation, name, options))
}

async function list(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const { terminal } = invocation
  const answer = await invocation.admin(timeout).get('/routes')
  terminal.show(answer, output, (look) => table(routeColumns, answer.routes, look))
  for (const { name, warnings = [] } of answer.routes)
    for (const warning of warnings) terminal.say(printable(`warning: route ${name}: ${warning}`))
  if (answer.routes.length === 0)
    terminal.say(
      'no routes: each model answers under its own name',
      'llamero route set NAME match.model=GLOB model=MODEL',
    )
}

const routeColumns: readonly Column<RouteAnswer>[] = [
  { title: 'NAME', cell: ({ name }) => name },
  { title: 'MATCH', cell: ({ in_force }) => in_force?.match.model ?? '-' },
  { title: 'TENANT', cell: ({ in_force }) => in_force?.match.tenant ?? '-' },
  { title: 'MODEL', cell: ({ in_force }) => in_force?.model ?? '-' },
  { title: 'FALLBACK', cell: ({ in_force }) => in_force?.fallback.join(', ') || '-' },
  { title: 'NODES', cell: ({ in_force }) => pairs(in_force?.nodes ?? {}) || '-' },
  { title: 'CLASS', cell: ({ in_force }) => in_force?.class ?? '-' },
  {
    title: 'STORED',
    cell: ({ ok, in_force }) => (ok ? 'ok' : in_force ? 'rejected, former in force' : 'rejected'),
  },
]

async function set(
  invocation: Invocation,
  name: string,
  assignments: readonly string[],
  { output, timeout }: RequestOptions,
): Promise<void> {
  const path = routePath(name)
  const body = routeChanges(assignments)
  const written = await invocation.admin(timeout).send({ method: 'patch', path, body })
  invocation.terminal.show(written, output, () => '')
  invocation.terminal.say(`${name}: written; it matches ${written.match.model}`, 'llamero route test MODEL')
}

interface TestOptions extends RequestOptions {
  readonly model?: string
  readonly path?: string
  readonly numCtx?: number
  readonly tenant?: string
  readonly class?: string
}

/** The exit code follows the request: success when it could go or wait, else not found or unavailable. */
async function test(
  invocation: Invocation,
  argument: string | undefined,
  { model: named, path, tenant, class: ofKey, numCtx: num_ctx, output, timeout }: TestOptions,
): Promise<void> {
  const model = argument ?? named
  if (model === undefined || (argument !== undefined && named !== undefined))
    throw new CliFailure(exits.usage, 'name one model, as the argument or with --model')
  const body = { model, path, tenant, class: ofKey, num_ctx }
  const answer = await invocation.admin(timeout).send({ method: 'post', path: '/routes/test', body })
  invocation.terminal.show(answer, output, (look) => routeTestView(answer, look))
  if (answer.refusal === 'no-model')
    throw new CliFailure(exits.notFound, `no node has ${answer.wanted.join(' or ')}`, 'llamero model list')
  if (answer.refusal === 'down')
    throw new CliFailure(exits.unavailable, `no node can serve ${answer.model} now`, 'llamero node list')
}

function tokenCount(text: string): number {
  const count = Number(text)
  if (!Number.isSafeInteger(count) || count < 1)
    throw new InvalidArgumentError('It must be a number of tokens.')
  return count
}

async function remove(invocation: Invocation, name: string, options: { timeout: number; yes?: boolean }) {
  const path = routePath(name)
  await invocation.consent(options.yes, async () => `Remove route ${name}?`)
  const admin = invocation.admin(options.timeout)
  await suggesting(name, admin.send({ method: 'delete', path }), () => namesOf(admin), 'llamero route list')
  invocation.terminal.say(`${name}: removed`)
}

async function namesOf(admin: AdminClient): Promise<string[]> {
  return (await admin.get('/routes')).routes.map(({ name }) => name)
}
