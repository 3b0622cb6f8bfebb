import { globSync, readFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

/**
 * The rules of the house that no linter of ours knows (docs/architecture.md#layers); part of `npm run check`. They read
 * import lines with a pattern: biome's format keeps each specifier on the line of its `from`.
 */

/** What each room may import besides itself. A file that lies in `lib` itself composes rooms and may import all of them. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  fleet: ['shared'],
  api: ['shared', 'fleet'],
  store: ['shared'],
  scheduler: ['shared', 'fleet'],
  cluster: ['shared', 'fleet', 'store', 'scheduler'],
  gateway: ['shared', 'fleet', 'scheduler'],
  agent: ['shared', 'fleet', 'store', 'cluster'],
  admin: ['shared', 'fleet', 'api', 'store', 'scheduler', 'cluster', 'gateway', 'version.ts'],
  cli: ['shared', 'fleet', 'api'],
  'simulation/ollama-model': ['shared'],
  'simulation/http': ['shared', 'simulation/ollama-model'],
  'simulation/fleet': ['shared', 'fleet', 'scheduler', 'cluster', 'simulation/ollama-model'],
}
const composers = new Set(['app', 'commands', 'app.ts', 'settings', 'start-error.ts', 'version.ts'])

/** Files in one folder: more than a reader takes in at a look. */
const mostFiles = 21

/** What has a file of its own name in each of these folders: a resource or a command, from its data to its command line. */
const layersOfResources = new Set([
  'lib/fleet',
  'lib/api',
  'lib/admin/handlers',
  'lib/agent',
  'lib/cli/commands',
  'lib/commands',
])

type Graph = ReadonlyMap<string, ReadonlySet<string>>

const root = fileURLToPath(new URL('../..', import.meta.url))
const files = globSync('lib/**/*.ts', { cwd: root }).sort()
const sources = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]))
const imports: Graph = new Map(files.map((file) => [file, importsOf(file)]))

const faults = [
  ...upwardImports(),
  ...circles(),
  ...folderCircles(),
  ...largeFolders(),
  ...doubleFiles(),
  ...doubleNames(),
  ...strayTests(),
]
for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exitCode = 1
else console.log(`The house is in order: ${files.length} files.`)

function importsOf(file: string): Set<string> {
  const specifiers = (sources.get(file) ?? '').matchAll(/(?:from |import\(|^import )'(\.{1,2}\/[^']+)'/gm)
  return new Set(Array.from(specifiers, ([, path = '']) => normalize(join(dirname(file), path))))
}

/** `lib/gateway/http/cors.ts` is in the room `gateway`; the parts of `simulation` are rooms of their own. */
function roomOf(file: string): string {
  const [, room = '', part = ''] = file.split('/')
  return room === 'simulation' ? `${room}/${part}` : room
}

function upwardImports(): string[] {
  return files.flatMap((file) => {
    const room = roomOf(file)
    const allowed = mayImport[room]
    if (allowed === undefined)
      return composers.has(room) ? [] : [`${file}: the room "${room}" is in no layer`]
    return [...(imports.get(file) ?? [])]
      .filter((target) => roomOf(target) !== room && !allowed.includes(roomOf(target)))
      .map(
        (target) =>
          `${file} imports ${target}: "${room}" may import ${allowed.join(', ') || 'no other room'}`,
      )
  })
}

/** Types count: a reader follows them as well. */
function circles(): string[] {
  return ringsIn(imports).map((ring) => `these files import each other in a circle: ${ring.join(', ')}`)
}

/** Between the folders of a room; files beside these folders are its doors and its words, and may stand above or below. */
function folderCircles(): string[] {
  const folders = new Map<string, Set<string>>()
  for (const [file, targets] of imports) {
    const inner = [...targets].map(dirname).filter((folder) => folder !== dirname(file) && isInner(folder))
    if (isInner(dirname(file)))
      folders.set(dirname(file), new Set([...(folders.get(dirname(file)) ?? []), ...inner]))
  }
  return ringsIn(folders).map((ring) => `these folders import each other in a circle: ${ring.join(', ')}`)
}

function isInner(folder: string): boolean {
  return folder !== `lib/${roomOf(`${folder}/`)}`
}

function largeFolders(): string[] {
  const sizes = Map.groupBy(files, dirname)
  return [...sizes]
    .filter(([, within]) => within.length > mostFiles)
    .map(
      ([folder, within]) =>
        `${folder} holds ${within.length} files: split it, at most ${mostFiles} are allowed`,
    )
}

/** A file name says which concept the file holds, wherever a reader meets it: an error's stack, a tab of an editor. */
function doubleFiles(): string[] {
  return [...Map.groupBy(files, (file) => basename(file))]
    .filter(
      ([, places]) => places.length > 1 && !places.every((file) => layersOfResources.has(dirname(file))),
    )
    .map(([name, places]) => `${name} is the name of ${places.join(' and ')}: name each after what it holds`)
}

function doubleNames(): string[] {
  const names = [...sources].flatMap(([file, text]) =>
    Array.from(text.matchAll(/^export (?:abstract )?(?:class|interface|type) (\w+)/gm), ([, name = '']) => ({
      name,
      file,
    })),
  )
  return [...Map.groupBy(names, ({ name }) => name)]
    .filter(([, places]) => places.length > 1)
    .map(
      ([name, places]) =>
        `"${name}" is exported by ${places.map(({ file }) => file).join(' and ')}: rename one`,
    )
}

/** Unit tests mirror the rooms; `house` tests the repository itself. */
function strayTests(): string[] {
  const rooms = new Set(['house', ...files.map((file) => file.split('/')[1] ?? '')])
  return globSync('test/unit/**/*.ts', { cwd: root })
    .filter((file) => !rooms.has(file.split('/')[2] ?? ''))
    .map((file) => `${file} lies in no room of lib: unit tests are in test/unit/ROOM`)
}

/** Groups of nodes that reach each other (Tarjan's strongly connected components, of two nodes or more). */
function ringsIn(graph: Graph): string[][] {
  const index = new Map<string, number>()
  const low = new Map<string, number>()
  const stack: string[] = []
  const rings: string[][] = []
  const visit = (node: string) => {
    const own = index.size
    index.set(node, own)
    low.set(node, own)
    stack.push(node)
    for (const next of graph.get(node) ?? []) {
      if (!index.has(next)) visit(next)
      if (stack.includes(next)) low.set(node, Math.min(low.get(node) ?? own, low.get(next) ?? own))
    }
    if (low.get(node) !== own) return
    const ring = stack.splice(stack.indexOf(node))
    if (ring.length > 1) rings.push(ring.sort())
  }
  for (const node of graph.keys()) if (!index.has(node)) visit(node)
  return rings
}
