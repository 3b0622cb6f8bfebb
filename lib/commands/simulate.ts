import type { SimulateOptions } from '../cli/cli-context.ts'
import { canonicalName } from '../fleet/documents/names.ts'
import { quickstartModels } from '../simulation/http/disk/model-definition.ts'
import { SimulatedNode } from '../simulation/http/simulated-node.ts'

interface Streams {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

/** `llamero simulate node`: runs one simulated Ollama until a signal, or until its parent process is gone. */
export async function simulateNode(options: SimulateOptions, { stdout, stderr }: Streams): Promise<number> {
  const { name, port, speed, slots } = options
  const known = quickstartModels.map((model) => model.name)
  const wanted = options.models.map((model) => canonicalName(model) ?? model)
  const unknown = wanted.filter((model) => !known.includes(model))
  if (unknown.length > 0) {
    stderr.write(`error: no simulated model ${unknown.join(', ')}\n  hint: there are ${known.join(', ')}\n`)
    return 2
  }
  const models =
    wanted.length === 0 ? quickstartModels : quickstartModels.filter((model) => wanted.includes(model.name))
  const node = await SimulatedNode.start({ name, port, models, speed, numParallel: slots }).catch(
    (error: Error) => error,
  )
  if (node instanceof Error) {
    stderr.write(`error: ${node.message}\n`)
    return 1
  }
  const { promise, resolve } = Promise.withResolvers<void>()
  process.once('SIGTERM', resolve)
  process.once('SIGINT', resolve)
  process.once('disconnect', resolve)
  process.send?.({ url: node.url })
  stdout.write(`simulated node ${name} on ${node.url}: ${models.map((model) => model.name).join(', ')}\n`)
  await promise
  await node.stop()
  // An open channel to the parent process would keep both alive, each waiting for the other.
  if (process.connected) process.disconnect()
  return 0
}
