/** The layout of the store (docs/etcd.md#key-layout): the only place that spells a key. */
export class KeyLayout {
  /** Every key of the cluster begins with this; it ends in "/". */
  readonly root: string

  /** @param cluster an object name (`isStoreName`). */
  constructor(cluster: string) {
    this.root = `/llamero/${cluster}/`
  }

  get config(): string {
    return `${this.root}config`
  }

  get leader(): string {
    return `${this.root}leader`
  }

  get heartbeat(): string {
    return `${this.root}state/heartbeat`
  }

  get uid(): string {
    return `${this.root}meta/uid`
  }

  node(name: string): string {
    return `${this.root}nodes/${name}`
  }

  route(name: string): string {
    return `${this.root}routes/${name}`
  }

  apiKey(id: string): string {
    return `${this.root}keys/${id}`
  }

  agent(name: string): string {
    return `${this.root}agents/${name}`
  }

  instance(id: string): string {
    return `${this.root}instances/${id}`
  }

  load(id: string): string {
    return `${this.root}load/${id}`
  }

  /** The record of one term of a leader. */
  term(fence: bigint): string {
    return `${this.root}history/${fence}`
  }

  nodeState(name: string): string {
    return `${this.root}state/nodes/${name}`
  }

  /** What the leader remembers of a node that an agent registered. */
  remembered(node: string): string {
    return `${this.root}state/remembered/${node}`
  }

  /** What is remembered of an instance that was registered. */
  rememberedInstance(id: string): string {
    return `${this.root}state/instances/${id}`
  }

  job(id: string): string {
    return `${this.root}jobs/${id}`
  }

  jobState(id: string): string {
    return `${this.root}state/jobs/${id}`
  }

  /** Where the verdict on an operator's key is written: the same path under `status/`. */
  verdict(key: string): string {
    return `${this.root}status/${key.slice(this.root.length)}`
  }

  /** The folder of a key and the name within it. Null for keys outside the layout. */
  parse(key: string): { readonly folder: Folder; readonly name: string } | null {
    if (!key.startsWith(this.root)) return null
    const start = this.root.length
    // No folder is deeper than two parts. Every change asks this of thousands of keys.
    const first = partEnd(key, start)
    const end = isFolder(key.slice(start, first)) ? first : partEnd(key, first + 1)
    const folder = key.slice(start, end)
    if (!isFolder(folder)) return null
    const name = key.slice(end + 1)
    // Neither "nodes" nor "config/" is a key of the layout: its value would pass for another document.
    if (name === '' && (key.length > end || !single.has(folder))) return null
    return { folder, name }
  }
}

const folders = [
  'config',
  'leader',
  'state/heartbeat',
  'state/nodes',
  'state/jobs',
  'state/remembered',
  'state/instances',
  'meta/uid',
  'nodes',
  'routes',
  'keys',
  'agents',
  'jobs',
  'instances',
  'load',
  'history',
  'status',
] as const
export type Folder = (typeof folders)[number]

const known: ReadonlySet<string> = new Set(folders)

/** The keys that are no folders. */
const single: ReadonlySet<Folder> = new Set(['config', 'leader', 'state/heartbeat', 'meta/uid'])

function isFolder(path: string): path is Folder {
  return known.has(path)
}

function partEnd(key: string, from: number): number {
  const end = key.indexOf('/', from)
  return end < 0 ? key.length : end
}
