import type { z } from 'zod'
import { type ApiKey, apiKeySchema } from '../../fleet/api-key.ts'
import { type Config, configSchema, type RouteSpec, routeSchema } from '../../fleet/config.ts'
import { type DocumentFault, describeFaults } from '../../fleet/documents/contents.ts'
import { type Parsed, readDocument } from '../../fleet/documents/document.ts'
import { isStoreName, storeNameRule } from '../../fleet/documents/names.ts'
import type { AgentRecord, Verdict } from '../../fleet/instance.ts'
import { type NodeSpec, nodeSchema } from '../../fleet/node.ts'
import { sameServerKey } from '../../fleet/node-url.ts'
import type { KeyLayout } from '../../store/key-layout.ts'
import type { Entry } from '../../store/store.ts'
import { byFolder, readAgents } from '../records.ts'
import { pathHint, unknownKeysIn } from './unknown-keys.ts'

/** The folders with documents of operators. */
export const operatorFolders = ['config', 'nodes', 'routes', 'keys'] as const
export type OperatorFolder = (typeof operatorFolders)[number]

/** A valid text, and its parsed value. */
interface Version<T> {
  readonly value: T
  readonly text: string
  readonly revision: bigint
}

/** One document: what is stored, what is in force, and why the two differ. */
export interface Judged<T> {
  readonly key: string
  /** Revisions of the key's creation and of the text stored now. */
  readonly created: bigint
  readonly stored: bigint
  readonly text: string
  /** The stored text, parsed without regard to other documents. */
  readonly parsed: Parsed<T>
  /** The version in force; null when no version was ever valid. */
  readonly active: Version<T> | null
  /** Why the stored text is not in force; empty when it is. */
  readonly faults: readonly DocumentFault[]
  /** Whether the key is under a lease: an agent wrote it, not an operator. */
  readonly isLeased: boolean
  /** Warnings for the operator about a document that is in force. */
  readonly warnings: readonly string[]
}

type Folder<T> = ReadonlyMap<string, Judged<T>>

/** Every document by folder and name; the name of the config is "". Unknown keys are listed by their path. */
export interface StoredDocuments {
  readonly config: Folder<Config>
  readonly nodes: Folder<NodeSpec>
  readonly routes: Folder<RouteSpec>
  readonly keys: Folder<ApiKey>
  /** Keys that no instance reads; they are never in force. */
  readonly unknown: Folder<never>
}

export const noDocuments: StoredDocuments = {
  config: new Map(),
  nodes: new Map(),
  routes: new Map(),
  keys: new Map(),
  unknown: new Map(),
}

/**
 * Judges each document by itself, so that a typo affects one document only: an invalid text leaves its last valid version
 * in force (docs/etcd.md#validation). A document that is deleted and created again has no earlier version.
 */
export function judge(
  entries: readonly Entry[],
  keys: KeyLayout,
  previous: StoredDocuments,
): StoredDocuments {
  const found = byFolder(entries, keys)
  const nodes = judgeFolder(found('nodes'), previous.nodes, readers.nodes)
  return {
    config: judgeFolder(found('config'), previous.config, readers.config),
    nodes: warnOfAgents(rejectDuplicateUrls(nodes, previous.nodes), readAgents(found('agents'))),
    routes: judgeFolder(found('routes'), previous.routes, readers.routes),
    keys: judgeFolder(found('keys'), previous.keys, readers.keys),
    unknown: judgeUnknown(entries, keys),
  }
}

export function isOperatorFolder(folder: string): folder is OperatorFolder {
  return (operatorFolders as readonly string[]).includes(folder)
}

/** The values in force of one folder, by name. */
export function inForce<T>(folder: Folder<T>): Map<string, T> {
  return new Map([...folder].flatMap(([name, { active }]) => (active ? [[name, active.value] as const] : [])))
}

/** Every document of every folder. */
export function allDocuments({ config, nodes, routes, keys, unknown }: StoredDocuments): Judged<unknown>[] {
  return [config, nodes, routes, keys, unknown].flatMap((folder): Judged<unknown>[] => [...folder.values()])
}

/** The verdict on a document. The leader adds its fence. */
export function verdictOf({ stored, active, faults, warnings }: Judged<unknown>): Omit<Verdict, 'fence'> {
  return {
    ok: faults.length === 0,
    errors: faults,
    ...(warnings.length > 0 && { warnings }),
    stored: String(stored),
    active: active && String(active.revision),
  }
}

/** A document that is not in force as it is stored. */
export interface Rejected {
  readonly key: string
  readonly verdict: Omit<Verdict, 'fence'>
}

export function rejectedIn(documents: StoredDocuments): Rejected[] {
  return allDocuments(documents)
    .filter(({ faults }) => faults.length > 0)
    .map((object) => ({ key: object.key, verdict: verdictOf(object) }))
}

/** For the log: the documents that were rejected since `former`, each once per stored text, and what is in force instead. */
export function newlyRejected(former: StoredDocuments, current: StoredDocuments) {
  const known = new Set(allDocuments(former).map(({ key, stored }) => `${key} ${stored}`))
  return allDocuments(current)
    .filter(({ key, stored, faults }) => faults.length > 0 && !known.has(`${key} ${stored}`))
    .map(({ key, active, faults }) => ({
      key,
      faults: describeFaults(faults),
      effect:
        active === null
          ? 'the document is ignored: no version of it was ever valid'
          : `its last valid version, of revision ${active.revision}, stays in force`,
    }))
}

type Read<T> = (name: string, entry: Entry) => Parsed<T>

/** Parsers by folder. Each entry is parsed once. */
export const readers = {
  config: once(readConfig),
  nodes: once(named('nodes', nodeSchema)),
  routes: once(named('routes', routeSchema)),
  keys: once(named('keys', apiKeySchema)),
}

/** Caches the result by entry: entries are replaced, never changed. */
function once<T>(read: Read<T>): Read<T> {
  const known = new WeakMap<Entry, Parsed<T>>()
  return (name, entry) => {
    const parsed = known.get(entry) ?? read(name, entry)
    known.set(entry, parsed)
    return parsed
  }
}

function named<S extends z.ZodType>(folder: string, schema: S): Read<z.output<S>> {
  return (name, { value }) =>
    isStoreName(name)
      ? readDocument(value, schema)
      : misplaced(`the name "${name}" cannot be used: ${storeNameRule}`, pathHint(`${folder}/${name}`))
}

function readConfig(name: string, { value }: Entry): Parsed<Config> {
  return name === ''
    ? readDocument(value, configSchema)
    : misplaced('the config is one document, with the key "config"', pathHint('config'))
}

function misplaced(message: string, hint: string): Parsed<never> {
  return { ok: false, faults: [{ path: '', line: null, message, hint }] }
}

function judgeFolder<T>(
  entries: ReadonlyMap<string, Entry>,
  previous: Folder<T>,
  read: Read<T>,
): Map<string, Judged<T>> {
  return new Map(
    [...entries].map(([name, entry]) => {
      const before = previous.get(name)
      return [
        name,
        judgeOne(entry, before?.created === entry.created ? before : null, () => read(name, entry)),
      ]
    }),
  )
}

/** An unknown key is a document that is never in force: verdict, status, metric and log follow from that. */
function judgeUnknown(entries: readonly Entry[], keys: KeyLayout): Map<string, Judged<never>> {
  return new Map(
    unknownKeysIn(entries, keys).map(({ path, entry, faults }) => [
      path,
      judgeOne<never>(entry, null, () => ({ ok: false, faults })),
    ]),
  )
}

function judgeOne<T>(entry: Entry, before: Judged<T> | null, read: () => Parsed<T>): Judged<T> {
  // Revisions alone are not enough: a wiped store counts from the beginning again.
  const isKnown = before?.stored === entry.modified && before.text === entry.value
  const parsed = isKnown ? before.parsed : read()
  return {
    key: entry.key,
    created: entry.created,
    stored: entry.modified,
    text: entry.value,
    parsed,
    active: parsed.ok
      ? { value: parsed.value, text: entry.value, revision: entry.modified }
      : (before?.active ?? null),
    faults: parsed.ok ? [] : parsed.faults,
    isLeased: entry.lease !== null,
    warnings: [],
  }
}

/**
 * Two nodes must not have the same server: the node created later is at fault. Its last valid version stays in force
 * unless that has the same URL.
 */
function rejectDuplicateUrls(
  judged: ReadonlyMap<string, Judged<NodeSpec>>,
  previous: Folder<NodeSpec>,
): Folder<NodeSpec> {
  const owners = new Map<string, string>()
  const settled = new Map<string, Judged<NodeSpec>>()
  const byAge = [...judged].sort(([, a], [, b]) => (a.created < b.created ? -1 : 1))
  for (const [name, node] of byAge) {
    const before = previous.get(name)
    const good = before?.created === node.created ? before.active : null
    const active = [node.active, good].find((version) => version && !owners.has(keyOf(version))) ?? null
    if (active) owners.set(keyOf(active), name)
    const isTaken = node.active !== null && node.faults.length === 0 && active !== node.active
    const faults = isTaken ? [duplicate(node.active, owners, settled)] : node.faults
    settled.set(name, { ...node, active, faults })
  }
  return settled
}

/** Adds a warning to the operator's document of a node that an agent announces under the same name: the document wins. */
function warnOfAgents(nodes: Folder<NodeSpec>, agents: ReadonlyMap<string, AgentRecord>): Folder<NodeSpec> {
  return new Map(
    [...nodes].map(([name, node]) => {
      const agent = node.isLeased ? undefined : agents.get(name)
      return [name, agent && !agent.stopped ? { ...node, warnings: [overriddenBy(agent)] } : node]
    }),
  )
}

function overriddenBy({ announce }: AgentRecord): string {
  return `an agent announces ${announce} under this name; this document wins over it until it is removed`
}

/** Cache by document: parsing each URL of a large fleet at each change takes milliseconds. */
const serverKeys = new WeakMap<NodeSpec, string>()

function keyOf({ value }: Version<NodeSpec>): string {
  const key = serverKeys.get(value) ?? sameServerKey(value.url)
  serverKeys.set(value, key)
  return key
}

function duplicate(
  version: Version<NodeSpec>,
  owners: ReadonlyMap<string, string>,
  settled: Folder<NodeSpec>,
): DocumentFault {
  const { url } = version.value
  const owner = owners.get(keyOf(version)) ?? ''
  const taken = settled.get(owner)?.active?.value.url
  const same = taken === url ? 'is already the URL' : `leads to the same server as ${taken}, the URL`
  return { path: 'url', line: null, message: `${url} ${same} of node "${owner}"` }
}
