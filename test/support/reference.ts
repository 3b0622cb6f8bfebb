import { fileURLToPath } from 'node:url'
import { schemas } from '../../lib/fleet/document-schemas.ts'
import { settingReference } from '../../lib/settings/definitions.ts'
import { type ErrorCode, type ErrorFacts, errorCodes, ProxyError } from '../../lib/shared/errors.ts'
import { Metrics } from '../../lib/shared/metrics.ts'
import { runHere } from './cli-in-process.ts'
import { code, page, plain, table } from './markdown.ts'
import { adminApi } from './reference-api.ts'
import { fieldsOf } from './schema-table.ts'

/** Where the generated pages are. */
export const referenceDirectory = fileURLToPath(new URL('../../docs/reference/', import.meta.url))

/** The pages of `docs/reference/` as the code makes them, by file name. */
export async function referencePages(): Promise<ReadonlyMap<string, string>> {
  return new Map([
    ['configuration.md', configuration()],
    ['cli.md', await cli()],
    ['admin-api.md', await adminApi()],
    ['metrics.md', metrics()],
    ['errors.md', errors()],
  ])
}

function configuration(): string {
  const own = settingReference.map(({ flag, env, name, fallback, help }) => [
    code(flag),
    code(env),
    code(name),
    plain(fallback),
    plain(help),
  ])
  return page(
    'Configuration',
    'There are settings of one instance, and documents in the store that all instances of a cluster share.',
    '## Settings of an instance',
    'Flag, else environment, else file (`--config`, `$LLAMERO_CONFIG`, `/etc/llamero/llamero.yaml`), else default. `llamero env` prints each with its source. A secret has no flag.',
    table(['flag', 'environment', 'in the file', 'default', 'meaning'], own),
    ...documents.map(({ folder, key, about }) =>
      [
        `## \`${key}\``,
        about,
        table(['field', 'type', 'default', 'meaning'], fieldsOf(schemas[folder])),
      ].join('\n\n'),
    ),
  )
}

const documents = [
  {
    folder: 'config',
    key: 'config',
    about:
      'Settings of the whole cluster, at `/llamero/<cluster>/config`. Every field has a default, so the document may be absent. Change it with `llamero config set`, `config edit` or etcdctl; it is in force on every instance within a second.',
  },
  { folder: 'nodes', key: 'nodes/<name>', about: 'One Ollama server.' },
  {
    folder: 'routes',
    key: 'routes/<name>',
    about:
      'What happens to requests that match. Routes are tried in the order of their names; the first match applies.',
  },
  {
    folder: 'keys',
    key: 'keys/<id>',
    about:
      'An API key. `llamero key create` makes one and prints its token once; the store has the hash only.',
  },
] as const

function metrics(): string {
  const own = new Metrics().registry
    .getMetricsAsArray()
    .filter(({ name }) => name.startsWith('llamero_'))
    .map((metric) => {
      const { labelNames = [] } = metric as { readonly labelNames?: readonly string[] }
      return [code(metric.name), String(metric.type), labelNames.map(code).join(', '), plain(metric.help)]
    })
  return page(
    'Metrics',
    'At `/metrics` of the admin listener, for Prometheus. Besides these there are the `process_*` and `nodejs_*` metrics of prom-client. `node` is a registered node, `model` one that a node has or `_other`, `class` one of the configuration: labels never have text of a caller. Series of nodes, models and classes that are gone are removed. All times are in seconds.',
    table(['metric', 'type', 'labels', 'meaning'], own.sort()),
  )
}

function errors(): string {
  const rows = errorCodes.flatMap((each) => {
    const { status, retryAfter } = new ProxyError(each)
    return textsOf(each).map((text) => [
      code(each),
      String(status),
      retryAfter ? `${retryAfter}` : '',
      plain(text),
    ])
  })
  return page(
    'Errors',
    'Every error that a caller or an operator can meet. OpenAI callers and the admin API get the code; callers of Ollama and Anthropic get the text. `Retry-After` is the default, in seconds; where it is known better, the answer says it. Words in braces stand for facts of the request. What to do about each code: [troubleshooting](../troubleshooting.md).',
    table(['code', 'status', 'Retry-After', 'text'], rows),
  )
}

/** The sentences of an error: facts stand as `{name}`, and each of them that chooses another sentence by its absence is left out once. */
function textsOf(each: ErrorCode): string[] {
  const asked = new Set<string>()
  const facts = (absent?: string): ErrorFacts =>
    new Proxy({} as ErrorFacts, {
      get: (_target, name) => {
        asked.add(String(name))
        return name === absent ? undefined : `{${String(name)}}`
      },
    })
  const text = new ProxyError(each, facts()).message
  const others = [...asked].map((name) => new ProxyError(each, facts(name)).message)
  return [...new Set([text, ...others.filter((other) => !other.includes('undefined'))])]
}

async function cli(): Promise<string> {
  const sections = await commandsBelow([])
  return page(
    'Command line',
    'Every command, as `--help` prints it. All commands take `--admin-url <url>` (env `LLAMERO_ADMIN_URL`), `--no-color` and `--help`.',
    ...sections,
  )
}

/** Sections of a command and of those below it, in the order of the help. */
async function commandsBelow(path: readonly string[]): Promise<string[]> {
  const help = await helpOf(path)
  const [, list = ''] = /^Commands:\n((?:.+\n)+)/m.exec(help) ?? []
  const names = [...list.matchAll(/^ {2}([\w-]+)(?:\|[\w|-]+)? /gm)].map(([, name = '']) => name)
  const below: string[] = []
  for (const name of names) if (name !== 'help') below.push(...(await commandsBelow([...path, name])))
  const text = help.replace(/^Global Options:\n(?:.+\n)+\n?/m, '').trimEnd()
  return [
    `${path.length === 0 ? '' : `## llamero ${path.join(' ')}\n\n`}\`\`\`text\n${text}\n\`\`\``,
    ...below,
  ]
}

async function helpOf(path: readonly string[]): Promise<string> {
  return (await runHere([...path, '--help'])).printed
}
