import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import type { Command } from 'commander'
import type { DocumentFault } from '../../fleet/documents/contents.ts'
import { messageOf } from '../../shared/errors.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import type { Invocation } from '../invocation.ts'
import { nodePath } from './node-changes.ts'
import { routePath } from './route-changes.ts'

/** The document of the cluster that a file belongs to, with its path in the admin API. */
export type DocumentTarget = TextTarget | NodeTarget

/** A document with a text that the admin API shows. */
export interface TextTarget {
  /** For people. */
  readonly name: string
  readonly path: '/config' | ReturnType<typeof routePath>
  readonly folder: 'config' | 'routes'
}

/** The text of a node may contain secrets: the API accepts it and never shows it. */
interface NodeTarget {
  readonly name: string
  readonly path: ReturnType<typeof nodePath>
  readonly folder: 'nodes'
}

export interface TargetOptions {
  readonly route?: string
  readonly node?: string
}

/** Adds the options that name the document of a file; the default is the config. */
export function withTarget(command: Command): Command {
  return command
    .option('--route <name>', 'the file is this route')
    .option('--node <name>', 'the file is this node')
}

/** @throws Failure (usage) */
export function targetOf({ route, node }: TargetOptions): DocumentTarget {
  if (route !== undefined && node !== undefined)
    throw new CliFailure(exits.usage, 'a file is a route or a node, not both', 'give one of --route, --node')
  if (node !== undefined) return { name: `node ${node}`, path: nodePath(node), folder: 'nodes' }
  return textTargetOf(route)
}

/** A route, else the config. @throws Failure (usage) */
export function textTargetOf(route: string | undefined): TextTarget {
  if (route === undefined) return { name: 'config', path: '/config', folder: 'config' }
  return { name: `route ${route}`, path: routePath(route), folder: 'routes' }
}

/** The text of a file, or of stdin for "-". @throws Failure (usage) when it cannot be read. */
export async function readText(file: string, { context }: Invocation): Promise<string> {
  if (file === '-') return text(context.stdin)
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    throw new CliFailure(
      exits.usage,
      `cannot read ${file}: ${(error as NodeJS.ErrnoException).code ?? messageOf(error)}`,
    )
  }
}

/** The faults of a text, found by the code that checks stored documents. */
export async function faultsOf(
  text: string,
  folder: DocumentTarget['folder'],
): Promise<readonly DocumentFault[]> {
  // Loading these takes longer than the rest of the command, and most commands check nothing.
  const [{ readDocument }, { schemas }] = await Promise.all([
    import('../../fleet/documents/document.ts'),
    import('../../fleet/document-schemas.ts'),
  ])
  const parsed = readDocument(text, schemas[folder])
  return parsed.ok ? [] : parsed.faults
}

/** Prints every fault of a text. @throws Failure (invalid) when there is one. */
export async function requireValid(
  text: string,
  folder: DocumentTarget['folder'],
  file: string,
  { terminal }: Invocation,
): Promise<void> {
  const faults = await faultsOf(text, folder)
  for (const { path, line, message, hint } of faults) {
    const where = [line === null ? file : `${file}:${line}`, path].filter((part) => part !== '').join(': ')
    terminal.say(`${where}: ${message}`, hint)
  }
  if (faults.length > 0) throw new CliFailure(exits.invalid, `${file} is not valid`)
}
