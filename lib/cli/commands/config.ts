import type { Command } from 'commander'
import { describeFaults } from '../../fleet/documents/contents.ts'
import { didYouMean } from '../../shared/did-you-mean.ts'
import { configChanges } from '../changes/config-changes.ts'
import { putText, showDiff, storedText } from '../changes/config-text.ts'
import {
  readText,
  requireValid,
  type TargetOptions,
  targetOf,
  textTargetOf,
  withTarget,
} from '../changes/document-file.ts'
import type { Finish } from '../cli-context.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { type RequestOptions, withOutput, withTimeout, withYes } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { yamlText } from '../output-text.ts'
import { printable } from '../terminal/table.ts'
import { editConfig } from './config-edit.ts'

const setExamples = `
A value is YAML: a number, true or false, text, or a list or map in quotes, so that the shell leaves it alone.

Examples:
  llamero config set queue.max_wait=30s probes.rise=3
  llamero config set 'auth.hosts=[llm.example.com, "*.lan"]'
  llamero config set 'management.nodes={zone: a}'
  llamero config set queue.max_wait=`

/** `llamero config …`: the settings of the whole cluster. @param finish gets the exit code of `config diff`. */
export function fillConfig(config: Command, invocation: Invocation, finish: Finish): void {
  withOutput(withTimeout(config.command('get [path]')))
    .alias('show')
    .description('the settings in force, with every default; with a path, one of them')
    .option('--stored', 'print the stored text, in place of the settings in force')
    .action((path, options) => get(invocation, path, options))
  withTimeout(config.command('set <path=value...>'))
    .description('change fields; "path=" removes a field, which restores its default')
    .option('--dry-run', 'show what would change, and write nothing')
    .addHelpText('after', setExamples)
    .action((assignments, options) => set(invocation, assignments, options))
  withTimeout(config.command('edit'))
    .description('change the stored text in $VISUAL or $EDITOR')
    .action(({ timeout }) => editConfig(invocation, timeout))
  withTarget(config.command('validate <file>'))
    .description('check a file ("-" for stdin) without a server')
    .action((file, options) => validate(invocation, file, options))
  withTimeout(config.command('diff <file>'))
    .description('compare the stored text with a file; exit code 0: same, 1: different, higher: an error')
    .option('--route <name>', 'the file is this route')
    .action(async (file, options) => finish(await diff(invocation, file, options)))
  withYes(withTimeout(config.command('accept')))
    .description('put the documents of a suspect store in force: one that looks wiped or emptied')
    .action((options) => accept(invocation, options))
  withTarget(withTimeout(config.command('apply')))
    .description('store a file as the document; refused when the stored document changes meanwhile')
    .requiredOption('-f, --file <file>', 'the file, "-" for stdin')
    .option('--dry-run', 'show what would change, and write nothing')
    .action((options) => apply(invocation, options))
}

interface GetOptions extends RequestOptions {
  readonly stored?: boolean
}

async function get(invocation: Invocation, path: string | undefined, options: GetOptions) {
  const { terminal } = invocation
  const answer = await invocation.admin(options.timeout).get('/config')
  if (options.stored) terminal.write(answer.text ?? '')
  else {
    const value = path === undefined ? answer.effective : fieldAt(answer.effective, path)
    terminal.show(value, options.output, () => yamlText(value))
  }
  if (!answer.ok)
    terminal.say('the stored config is rejected; the last good one stays in force', 'llamero config edit')
  for (const { key, errors } of answer.unknown_keys ?? [])
    terminal.say(`warning: ${printable(`${key} ${describeFaults(errors)}`)}`)
}

function fieldAt(config: unknown, path: string): unknown {
  let value = config
  for (const name of path.split('.')) {
    const fields: Record<string, unknown> = typeof value === 'object' && value !== null ? { ...value } : {}
    if (!Object.hasOwn(fields, name)) {
      const meant = didYouMean(name, Object.keys(fields))
      throw new CliFailure(
        exits.notFound,
        `the config has no field "${path}"`,
        meant ? `did you mean "${meant}"?` : 'llamero config get',
      )
    }
    value = fields[name]
  }
  return value
}

interface ChangeOptions {
  readonly timeout: number
  readonly dryRun?: boolean
}

async function set(invocation: Invocation, assignments: readonly string[], options: ChangeOptions) {
  const { before, text, modified } = await howToWrite(
    invocation.admin(options.timeout).send({
      method: 'patch',
      path: options.dryRun ? '/config?dry_run=true' : '/config',
      body: configChanges(assignments),
    }),
  )
  showDiff(invocation, 'config', { stored: before, new: text })
  invocation.terminal.say(options.dryRun ? 'nothing was written' : `config: written, revision ${modified}`)
}

/** The result of a change. For an invalid value the failure says where to find examples. */
async function howToWrite<T>(change: Promise<T>): Promise<T> {
  try {
    return await change
  } catch (error) {
    if (!(error instanceof CliFailure) || error.exit !== exits.invalid) throw error
    const hint = error.hint ?? 'examples of lists, maps and text: llamero config set --help'
    throw new CliFailure(error.exit, error.message, hint, { cause: error })
  }
}

async function validate(invocation: Invocation, file: string, options: TargetOptions): Promise<void> {
  const { folder } = targetOf(options)
  await requireValid(await readText(file, invocation), folder, file, invocation)
  invocation.terminal.say(`${file}: valid`)
}

async function diff(
  invocation: Invocation,
  file: string,
  { route, timeout }: Pick<TargetOptions, 'route'> & { readonly timeout: number },
): Promise<number> {
  try {
    const target = textTargetOf(route)
    const text = await readText(file, invocation)
    const stored = await storedText(invocation.admin(timeout), target)
    return showDiff(invocation, target.name, { stored: stored?.text ?? '', new: text }) ? 1 : exits.ok
  } catch (error) {
    // Like diff(1): 1 is a difference, never a failure.
    if (!(error instanceof CliFailure) || error.exit !== exits.failure) throw error
    throw new CliFailure(exits.usage, error.message, error.hint, { cause: error })
  }
}

async function apply(invocation: Invocation, options: TargetOptions & ChangeOptions & { file: string }) {
  const { file, timeout, dryRun } = options
  const target = targetOf(options)
  const text = await readText(file, invocation)
  await requireValid(text, target.folder, file, invocation)
  const admin = invocation.admin(timeout)
  // The API does not show the text of a node, so there is nothing to compare with.
  const stored = target.folder === 'nodes' ? undefined : await storedText(admin, target)
  if (stored !== undefined && !showDiff(invocation, target.name, { stored: stored?.text ?? '', new: text }))
    return invocation.terminal.say(`${target.name}: unchanged`)
  if (dryRun) return invocation.terminal.say('nothing was written')
  await putText(admin, target.path, text, stored)
  invocation.terminal.say(`${target.name}: written`)
}

async function accept(invocation: Invocation, { timeout, yes }: { timeout: number; yes?: boolean }) {
  const admin = invocation.admin(timeout)
  await invocation.consent(yes, async () => {
    const { config } = await admin.get('/status')
    return `${config.suspect ?? 'The store is not suspect'}. Put its documents in force?`
  })
  await admin.send({ method: 'post', path: '/config/accept' })
  invocation.terminal.say('the documents of the store are in force', 'llamero status')
}
