import { blobPath } from '../disk/blobs.ts'
import { bytesPerMiB, layersOf, shortDigest } from '../disk/layers.ts'
import type { Layer, ModelDefinition } from '../disk/model-definition.ts'
import { type ModelName, parseName } from '../disk/model-name.ts'
import { Fields } from '../json.ts'
import type { Machine, NodeExchange } from '../machine.ts'
import { Refusal } from '../refusal.ts'
import { Progress, tickMs } from './progress.ts'

/** A pull or a push of one model. */
interface TransferRequest {
  readonly name: ModelName
  readonly stream: boolean
}

/** The body of `/api/pull`. @throws Refusal 400. */
export function readPull(body: unknown): TransferRequest {
  return readTransfer(body, 'PullRequest')
}

/** The body of `/api/push`. @throws Refusal 400. */
export function readPush(body: unknown): TransferRequest {
  return readTransfer(body, 'PushRequest')
}

/** `/api/pull` (docs/ollama.md#model-management). */
export async function pull(machine: Machine, exchange: NodeExchange, ask: TransferRequest): Promise<void> {
  const progress = new Progress(exchange.reply, ask.stream)
  await progress.run(() => fetchModel(machine, exchange, ask.name, progress))
}

/** `/api/push`: nothing leaves the process, but it takes as long as the network would. */
export async function push(machine: Machine, exchange: NodeExchange, ask: TransferRequest): Promise<void> {
  const progress = new Progress(exchange.reply, ask.stream)
  await progress.run(async () => {
    await progress.say('retrieving manifest')
    const manifest = machine.shelf.get(ask.name)
    if (!manifest) {
      await progress.say("couldn't retrieve manifest")
      throw new Refusal(500, 'file does not exist')
    }
    if (exchange.plan.registryAway) throw unreachable(ask.name, 'Head', 'blobs/')
    for (const layer of layersOf(manifest.model)) await upload(machine, exchange, layer, progress)
    await progress.say('pushing manifest')
    await progress.say('success')
  })
}

/** Brings the registry's `name` onto the node's disk. @throws Refusal 500, before or between lines of `progress`. */
export async function fetchModel(
  machine: Machine,
  exchange: NodeExchange,
  name: ModelName,
  progress: Progress,
): Promise<void> {
  const { registry, shelf, blobs, clock } = machine
  await progress.say('pulling manifest')
  if (exchange.plan.registryAway)
    throw new Refusal(500, `pull model manifest: ${unreachable(name, 'Get', 'manifests/').message}`)
  const model = registry.get(name.key)
  if (!model) throw new Refusal(500, 'pull model manifest: file does not exist')
  const missing = layersOf(model).filter(({ digest }) => !blobs.has(digest))
  for (const layer of layersOf(model)) await download(machine, exchange, layer, progress)
  await progress.say('verifying sha256 digest')
  if (exchange.plan.corruptDownload) refuseCorrupt(machine, missing)
  await progress.say('writing manifest')
  const replaced = shelf.get(name)
  shelf.put({ ...model, name: name.short }, clock.date())
  if (replaced && dropUnused(machine, replaced.model)) await progress.say('removing unused layers')
  await progress.say('success')
}

/** Deletes the blobs of `model` that no manifest names any more; returns whether there were any. */
export function dropUnused({ shelf, blobs }: Machine, model: ModelDefinition): boolean {
  const named = shelf.digests
  const unused = layersOf(model).filter(({ digest }) => !named.has(digest))
  for (const { digest } of unused) blobs.remove(digest)
  return unused.length > 0
}

async function download(
  { downloads, blobs }: Machine,
  { plan, pacer }: NodeExchange,
  layer: Layer,
  progress: Progress,
): Promise<void> {
  const { digest, bytes: total } = layer
  const report = (completed: number) =>
    progress.say(`pulling ${shortDigest(digest)}`, { digest, total, completed })
  if (blobs.has(digest)) return report(total)
  const fullAt = plan.diskFull ? plan.diskFull.atMiB * bytesPerMiB : Number.POSITIVE_INFINITY
  using share = downloads.join(layer, plan.downloadStall ?? null)
  const goal = Math.min(total, fullAt)
  while (share.completed < goal) {
    await pacer.wait(Math.min(tickMs, Math.max(1, Math.ceil(downloads.msFor(goal - share.completed)))))
    if (share.completed < goal) await report(share.completed)
  }
  if (fullAt <= total) throw diskFull(`${blobPath(digest)}-partial`)
  await report(total)
}

async function upload(
  { downloads }: Machine,
  { pacer }: NodeExchange,
  { digest, bytes: total }: Layer,
  progress: Progress,
): Promise<void> {
  const wholeMs = downloads.msFor(total)
  const report = (completed: number) =>
    progress.say(`pushing ${shortDigest(digest)}`, { digest, total, completed })
  for (let ms = tickMs; ms < wholeMs; ms += tickMs) {
    await pacer.wait(tickMs)
    await report(Math.floor((total * ms) / wholeMs))
  }
  await pacer.wait(wholeMs % tickMs)
  await report(total)
}

/** Go's error when the registry's host cannot be resolved. */
function unreachable({ full }: ModelName, method: 'Get' | 'Head', what: string): Refusal {
  const [, host = '', model = '', tag = ''] = /^([^/]+)\/(.+):(.+)$/.exec(full) ?? []
  const url = `https://${host}/v2/${model}/${what}${what === 'manifests/' ? tag : ''}`
  return new Refusal(500, `${method} ${JSON.stringify(url)}: dial tcp: lookup ${host}: no such host`)
}

/** The error of a write to a full disk. */
export function diskFull(path: string): Refusal {
  return new Refusal(500, `write ${path}: no space left on device`)
}

/** Drops the first blob of this pull: its bytes do not match its digest. */
function refuseCorrupt({ blobs }: Machine, [layer]: readonly Layer[]): void {
  if (!layer) return
  blobs.remove(layer.digest)
  const got = `sha256:${'0'.repeat(64)}`
  throw new Refusal(500, `digest mismatch, file must be downloaded again: want ${layer.digest}, got ${got}`)
}

function readTransfer(body: unknown, struct: string): TransferRequest {
  const fields = new Fields(body, struct)
  const name = parseName(fields.text('model') || fields.text('name'))
  if (!name) throw new Refusal(400, 'invalid model name')
  return { name, stream: fields.flag('stream') ?? true }
}
