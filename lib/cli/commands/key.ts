import { type Command, InvalidArgumentError } from 'commander'
import type { KeyAnswer } from '../../api/keys.ts'
import { isStoreName, storeNameRule } from '../../fleet/documents/names.ts'
import { type Scope, scopes } from '../../fleet/scopes.ts'
import { parseDuration } from '../../shared/duration.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { type RequestOptions, repeated, withOutput, withTimeout, withYes } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { suggesting } from '../suggestion.ts'
import { type Column, printable, table } from '../terminal/table.ts'

/** `llamero key …`: API keys of the data listener and the admin API. */
export function fillKey(key: Command, invocation: Invocation): void {
  withOutput(withTimeout(key.command('create <name>')))
    .description('create a key; its token is printed once')
    .option('--tenant <tenant>', 'tenant of the key')
    .option('--scope <scope>', `what it may do: ${scopes.join(', ')}; may be repeated`, scopeOption)
    .option(
      '--model <pattern>',
      'a model that it may use: a name, or a glob such as "qwen3*"; may be repeated',
      repeated,
    )
    .option('--class <class>', 'priority class of its requests, unless a route sets another')
    .option(
      '--expires <when>',
      'when it expires: a date (2027-01-31), a date with time, or a duration from now (720h)',
    )
    .option('-q, --quiet', 'print only the token')
    .action((name, options) => create(invocation, name, options))
  withOutput(withTimeout(key.command('list')))
    .alias('ls')
    .description('all keys, without their tokens')
    .action((options) => list(invocation, options))
  withYes(withTimeout(key.command('revoke <id>')))
    .alias('rm')
    .description('revoke a key')
    .action((id, options) => revoke(invocation, id, options))
}

interface CreateOptions extends RequestOptions {
  readonly tenant?: string
  readonly scope?: readonly Scope[]
  readonly model?: readonly string[]
  readonly class?: string
  readonly expires?: string
  readonly quiet?: boolean
}

async function create(invocation: Invocation, id: string, options: CreateOptions): Promise<void> {
  const { tenant, scope, model, expires, quiet, output, timeout } = options
  const { terminal, context } = invocation
  checkId(id)
  const body = {
    id,
    tenant,
    scopes: scope,
    models: model,
    class: options.class,
    expires: expires && expiryOf(expires, context.clock.date()),
  }
  const created = await invocation.admin(timeout).send({ method: 'post', path: '/keys', body })
  terminal.show(created, output, () => `${created.token}\n`)
  if (!quiet)
    terminal.say(`${id}: created; keep the token, it cannot be shown again`, `llamero key revoke ${id}`)
}

async function list(invocation: Invocation, { output, timeout }: RequestOptions): Promise<void> {
  const answer = await invocation.admin(timeout).get('/keys')
  const now = invocation.context.clock.date()
  invocation.terminal.show(answer, output, (look) => table(keyColumns(now), answer.keys, look))
  for (const { id, warnings = [] } of answer.keys)
    for (const warning of warnings) invocation.terminal.say(printable(`warning: key ${id}: ${warning}`))
  if (answer.keys.length === 0) invocation.terminal.say('no keys yet', 'llamero key create NAME')
}

interface RevokeOptions {
  readonly timeout: number
  readonly yes?: boolean
}

async function revoke(invocation: Invocation, id: string, { timeout, yes }: RevokeOptions): Promise<void> {
  checkId(id)
  const admin = invocation.admin(timeout)
  await invocation.consent(yes, async () => `Revoke key ${id}? Its clients are refused at once.`)
  const known = async () => (await admin.get('/keys')).keys.map((key) => key.id)
  const revoked = admin.send({ method: 'delete', path: `/keys/${id}` })
  await suggesting(id, revoked, known, 'llamero key list')
  invocation.terminal.say(`${id}: revoked`)
}

function keyColumns(now: Date): readonly Column<KeyAnswer>[] {
  return [
    { title: 'ID', cell: (key) => key.id },
    { title: 'TENANT', cell: (key) => key.tenant },
    { title: 'SCOPES', cell: (key) => key.scopes.join(', ') },
    { title: 'MODELS', cell: (key) => key.models.join(', ') },
    { title: 'CLASS', cell: (key) => key.class ?? '-' },
    { title: 'EXPIRES', cell: ({ expires }) => (expires === null ? 'never' : endOf(expires, now)) },
  ]
}

function endOf(expires: string, now: Date): string {
  return Date.parse(expires) <= now.getTime() ? `${expires} (expired)` : expires
}

/** Ids become part of a URL. */
function checkId(id: string): void {
  if (!isStoreName(id))
    throw new CliFailure(exits.usage, `"${id}" cannot be the id of a key: ${storeNameRule}`)
}

function scopeOption(value: string, earlier: readonly Scope[] | undefined): Scope[] {
  const scope = scopes.find((known) => known === value)
  if (!scope) throw new InvalidArgumentError(`Allowed choices are ${scopes.join(', ')}.`)
  return [...(earlier ?? []), scope]
}

/** `720h` from now, `2027-01-31` or a date with time, as an ISO date. @throws Failure (usage) */
function expiryOf(text: string, now: Date): string {
  const ms = parseDuration(text)
  const at = ms === null ? dateOf(text) : now.getTime() + ms
  if (at === null)
    throw new CliFailure(
      exits.usage,
      `"${text}" is neither a date nor a duration`,
      'write 2027-01-31 or 720h',
    )
  if (at <= now.getTime())
    throw new CliFailure(exits.usage, `"${text}" has passed already`, 'write a date in the future')
  return new Date(at).toISOString()
}

/** Milliseconds of an ISO date. `Date.parse` alone would accept other formats too. */
function dateOf(text: string): number | null {
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d.*)?$/.test(text)) return null
  const at = Date.parse(text)
  return Number.isNaN(at) ? null : at
}
