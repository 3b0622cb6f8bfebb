import type { NodeAnswer, nodeEndpoints } from '../../api/nodes.ts'
import type { DocumentFault } from '../../fleet/documents/contents.ts'
import { readDocument } from '../../fleet/documents/document.ts'
import { type NodeSpec, type NodeView, nodeSchema } from '../../fleet/node.ts'
import { sameServerKey } from '../../fleet/node-url.ts'
import { ProxyError } from '../../shared/errors.ts'
import { findInTurns, turns } from '../../shared/turns.ts'
import type { Entry } from '../../store/store.ts'
import { type Handlers, Reply } from '../add-endpoints.ts'
import type { AdminContext } from '../admin-context.ts'
import { checkHeadersStay, checkIsNoListener, listenersOf, withoutHeaders } from './node-rules.ts'
import { checkDocument, checkName, patchText, textOf, writeDocument } from './write-document.ts'

/** The Ollama servers: the wanted and the observed state of each, and changes to it. */
export function nodeHandlers(admin: AdminContext): Handlers<typeof nodeEndpoints> {
  return {
    listNodes: () => ({ nodes: rows(admin) }),

    readNode: ({ params: { name } }) => {
      const node = admin.snapshot.get().nodes.get(name)
      const rejected = rejectedNodes(admin).get(name) ?? []
      if (!node && rejected.length === 0) throw new ProxyError('not_found', { kind: 'node', name })
      return node ? row(node, rejected, admin) : rejectedRow(name, rejected)
    },

    writeNode: async ({ params, body, headers }) => {
      const name = checkName('node', params.name)
      const existing = await admin.store.get(admin.keys.node(name))
      if (existing && headers['if-none-match'] === '*')
        throw new ProxyError('conflict', {
          reason: `node "${name}" exists already; change it with: llamero node set ${name} FIELD=VALUE`,
        })
      const spec = await write(admin, name, textOf(body), existing)
      return new Reply(existing ? 200 : 201, { name, ...withoutHeaders(spec) })
    },

    changeNode: async ({ params, body }) => {
      const name = checkName('node', params.name)
      const existing = await admin.store.get(admin.keys.node(name))
      if (!existing) throw absentNode(admin, name)
      const text = patchText(existing.value, body)
      const spec = await checkDocument(text, nodeSchema)
      await turns.next()
      checkHeadersStay(specOf(existing.value), spec, body['headers'])
      return { name, ...withoutHeaders(await write(admin, name, text, existing)) }
    },

    removeNode: async ({ params }) => {
      const name = checkName('node', params.name)
      const { keys, store } = admin
      const [key, remembered] = [keys.node(name), keys.remembered(name)]
      const [existing, memory] = await Promise.all([store.get(key), store.get(remembered)])
      if (!existing && !memory) throw new ProxyError('not_found', { kind: 'node', name })
      // The operator's removal also deletes the memory of a departed node.
      await store.commit({
        when: [],
        apply: [
          { type: 'delete', key },
          { type: 'delete', key: remembered },
        ],
      })
      admin.log.info('node removed', { node: name })
    },
  }
}

async function write(
  admin: AdminContext,
  name: string,
  text: string,
  existing: Entry | null,
): Promise<NodeSpec> {
  const spec = await checkDocument(text, nodeSchema)
  const { url } = spec
  checkIsNoListener(spec, [...admin.listeners(), ...listenersOf(admin.cluster.view.instances())])
  const isKept = await findInTurns(existing ? [existing] : [], (entry) => leadsTo(url, entry))
  if (!isKept) await checkIsNoTwin(admin, name, url)
  await writeDocument(admin.store, admin.keys.node(name), text, existing)
  admin.log.info('node written', { node: name, url })
  return spec
}

/** @throws ProxyError `conflict` when another node has the same server, also under another spelling of its URL. */
async function checkIsNoTwin({ store, keys }: AdminContext, name: string, url: string): Promise<void> {
  const { entries } = await store.list(`${keys.root}nodes/`)
  const twin = await findInTurns(entries, (entry) => entry.key !== keys.node(name) && leadsTo(url, entry))
  if (!twin) return
  const [other, theirs] = [keys.parse(twin.key)?.name ?? '', specOf(twin.value)?.url]
  const how = theirs === url ? '' : `, which leads to the same server as ${url}`
  throw new ProxyError('conflict', { reason: `node "${other}" has the URL ${theirs} already${how}` })
}

function leadsTo(url: string, { value }: Entry): boolean {
  const spec = specOf(value)
  return spec !== null && sameServerKey(spec.url) === sameServerKey(url)
}

/** The error for a change of a node without a document; a departed node has none. */
function absentNode({ snapshot }: AdminContext, name: string): ProxyError {
  const departed = snapshot.get().nodes.get(name)?.departed
  if (!departed) return new ProxyError('not_found', { kind: 'node', name })
  return new ProxyError('conflict', {
    reason: `node "${name}" is no longer registered (${departed.reason}); start its agent again, register it with "llamero node add", or forget it with "llamero node remove ${name}"`,
  })
}

function specOf(text: string): NodeSpec | null {
  const parsed = readDocument(text, nodeSchema)
  return parsed.ok ? parsed.value : null
}

/** Every node, and every invalid document of a node. */
function rows(admin: AdminContext): NodeAnswer[] {
  const nodes = [...admin.snapshot.get().nodes.values()]
  const rejected = rejectedNodes(admin)
  const known = nodes.map((node) => row(node, rejected.get(node.name) ?? [], admin))
  const names = new Set(nodes.map(({ name }) => name))
  const others = [...rejected].filter(([name]) => !names.has(name))
  return [...known, ...others.map(([name, faults]) => rejectedRow(name, faults))]
}

/** The faults of rejected documents of nodes, by name. */
function rejectedNodes({ cluster, keys }: AdminContext): Map<string, readonly DocumentFault[]> {
  return new Map(
    cluster.rejected().flatMap(({ key, verdict }) => {
      const place = keys.parse(key)
      return place?.folder === 'nodes' ? [[place.name, verdict.errors] as const] : []
    }),
  )
}

/** A row for a document that was never valid: there is no node, but its operator looks for one. */
function rejectedRow(name: string, faults: readonly DocumentFault[]): NodeAnswer {
  return {
    name,
    url: '',
    state: 'rejected',
    health: 'unknown',
    reason: 'its document is invalid, so it gets no requests',
    since: null,
    weight: 0,
    slots: 0,
    slots_by_model: {},
    labels: {},
    source: 'operator',
    version: '',
    running: 0,
    running_by_instance: {},
    breaker: 'closed',
    frozen: false,
    loaded: [],
    models: [],
    vram_bytes: 0,
    rejected: faults,
  }
}

function row(
  node: NodeView,
  rejected: readonly DocumentFault[],
  { cluster, scheduler, upstreams, instance }: AdminContext,
): NodeAnswer {
  const { name, spec, status, departed } = node
  const others = [...cluster.view.loads()]
    .filter(([id]) => id !== instance)
    .map(([id, load]) => [id, load.running[name] ?? 0] as const)
  const slots = scheduler.slotsOf(name)
  const byInstance = [...others, [instance, scheduler.running(name)] as const].filter(
    ([, running]) => running > 0,
  )
  return {
    name,
    url: spec.url,
    state: departed ? 'departed' : spec.state,
    health: status?.health ?? 'unknown',
    reason: status?.reason ?? (spec.state === 'off' ? 'not probed while off' : 'not probed yet'),
    since: status?.since ?? null,
    weight: spec.weight,
    slots: slots.size > 0 ? Math.min(...slots.values()) : node.slots,
    slots_by_model: Object.fromEntries(slots),
    labels: spec.labels,
    source: departed ? 'agent' : cluster.view.nodeSource(name),
    version: status?.version ?? '',
    running: byInstance.reduce((sum, [, running]) => sum + running, 0),
    running_by_instance: Object.fromEntries(byInstance),
    breaker: upstreams.breakerState(name),
    frozen: upstreams.isFrozen(name),
    loaded: [...node.resident.keys()],
    models: [...node.onDisk.keys()],
    vram_bytes: (status?.loaded ?? []).reduce((sum, model) => sum + model.size_vram, 0),
    // Why the stored document is not in force; the last valid version is.
    rejected,
  }
}
