import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type Clock, RealClock } from '../../shared/clock.ts'
import { bind } from '../../shared/net/address.ts'
import { ollamaDefaults } from '../ollama-model/defaults.ts'
import { Blobs } from './disk/blobs.ts'
import { Downloads } from './disk/downloads.ts'
import { layersOf } from './disk/layers.ts'
import { type ModelDefinition, quickstartModels } from './disk/model-definition.ts'
import { parseName } from './disk/model-name.ts'
import { Shelf } from './disk/shelf.ts'
import type { Gpu } from './engine/gpu-memory.ts'
import { NodeRunners, type NodeRunnersOptions } from './engine/node-runners.ts'
import { Faults } from './faults.ts'
import { Ledger, type NodeEvent, type NodeStats, type RequestRecord } from './ledger.ts'
import type { Machine } from './machine.ts'
import { serve } from './service.ts'

export interface SimulatedNodeOptions {
  readonly name: string
  readonly models: readonly ModelDefinition[]
  /** What it can pull. */
  readonly registry?: readonly ModelDefinition[]
  /** How fast a blob is pulled or pushed; 0: as fast as the machine can. */
  readonly netMiBps?: number
  /** Where it listens; loopback by default. */
  readonly host?: string
  /** 0: any free one. */
  readonly port?: number
  readonly clock?: Clock
  readonly version?: string
  /** Whether models of ollama.com are forbidden. The node has no account. */
  readonly cloud?: 'off' | 'signed-out'
  /** None: a CPU node. */
  readonly gpus?: readonly Gpu[]
  readonly numParallel?: number
  /** 0: three for each GPU. */
  readonly maxLoadedModels?: number
  readonly maxQueue?: number
  /** Infinity: for ever. */
  readonly keepAliveMs?: number
  /** Multiplies the models' prompt and decode speeds. */
  readonly speed?: number
  /** Decides the ids in answers. */
  readonly seed?: number
}

type Disk = Pick<Machine, 'shelf' | 'blobs' | 'downloads'>

const defaultGpus: readonly Gpu[] = [{ id: 'gpu0', totalMiB: 24_576, discrete: true }]

/** One simulated Ollama, by default on loopback. A client cannot tell it from a real one. */
export class SimulatedNode {
  readonly name: string
  readonly port: number
  readonly url: string
  /** What can go wrong with it. */
  readonly control: Faults
  readonly #server: Server
  readonly #ledger: Ledger
  readonly #clock: Clock
  readonly #disk: Disk
  readonly #newRunners: (heldMiB: number) => NodeRunners
  #runners: NodeRunners
  #stopping: Promise<void> | null = null

  private constructor(options: SimulatedNodeOptions, server: Server) {
    const { clock = new RealClock(), version = '0.32.15', speed = 1, seed = 1 } = options
    const { cloud = 'signed-out' } = options
    const { registry = quickstartModels } = options
    const ledger = new Ledger(clock)
    this.name = options.name
    const { address, port } = server.address() as AddressInfo
    this.port = port
    this.url = `http://${address}:${port}`
    this.#server = server
    this.#ledger = ledger
    this.#clock = clock
    this.#disk = diskOf(options, clock)
    this.#newRunners = (heldMiB) => runnersOf(options, { clock, ledger, heldMiB })
    this.#runners = this.#newRunners(0)
    this.control = new Faults(ledger, {
      refuse: () => this.#refuse(),
      accept: () => listen(this.#server, port, address),
      restart: (downMs, killed) => this.#restart(downMs, { host: address, killed }),
      crashRunners: () => this.#runners.crash(),
    })
    const runners = () => this.#runners
    this.#answer({
      clock,
      version,
      cloud,
      speed,
      seed,
      ledger,
      ...this.#disk,
      registry: new Map(registry.map((model) => [parseName(model.name)?.key ?? model.name, model])),
      get runners() {
        return runners()
      },
    })
  }

  /** Resolves once the node listens. Rejects with the system's error when the port is taken. */
  static async start(options: SimulatedNodeOptions): Promise<SimulatedNode> {
    // Like Go's server: no timeouts, 1 MiB of headers (docs/ollama.md#http).
    const server = createServer({
      keepAliveTimeout: 0,
      headersTimeout: 0,
      requestTimeout: 0,
      maxHeaderSize: 1024 * 1024,
    })
    await listen(server, options.port ?? 0, options.host ?? '127.0.0.1')
    return new SimulatedNode(options, server)
  }

  /** What happened, in order; the latest 10,000 events at least. */
  get log(): readonly NodeEvent[] {
    return this.#ledger.events
  }

  /** The requests in order of arrival; the latest 10,000 at least. */
  get requests(): readonly RequestRecord[] {
    return this.#ledger.requests
  }

  stats(): NodeStats {
    return this.#ledger.stats()
  }

  /** Closes every socket and ends every timer. Safe to call twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#shutDown()
    return this.#stopping
  }

  #answer(machine: Machine): void {
    this.#server.on('connection', (socket: Socket) => {
      this.#ledger.connected()
      socket.once('close', () => this.#ledger.disconnected())
    })
    this.#server.on('request', (request, response) => {
      // A node that refuses connections also resets those it kept alive.
      if (!this.#server.listening) request.socket.resetAndDestroy()
      else void serve(machine, this.control, request, response)
    })
  }

  async #refuse(): Promise<void> {
    this.#server.close()
  }

  async #restart(downMs: number, { host, killed }: { host: string; killed: boolean }): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    const heldMiB = killed ? this.#runners.usedMiB : 0
    this.#runners.stop()
    this.#runners = this.#newRunners(heldMiB)
    this.#disk.downloads.forget()
    this.#disk.blobs.prune(this.#disk.shelf.digests)
    await this.#clock.sleep(downMs)
    if (!this.#stopping) await listen(this.#server, this.port, host)
  }

  async #shutDown(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    this.#runners.stop()
    await closed
  }
}

function diskOf({ models, netMiBps = 100 }: SimulatedNodeOptions, clock: Clock): Disk {
  const blobs = new Blobs(models.flatMap(layersOf))
  return {
    shelf: new Shelf(models, clock.date()),
    blobs,
    downloads: new Downloads(clock, blobs, netMiBps),
  }
}

function runnersOf(
  options: SimulatedNodeOptions,
  around: Pick<NodeRunnersOptions, 'clock' | 'ledger' | 'heldMiB'>,
): NodeRunners {
  const {
    gpus = defaultGpus,
    numParallel = 1,
    maxLoadedModels = 0,
    maxQueue = ollamaDefaults.maxQueue,
  } = options
  const { keepAliveMs = ollamaDefaults.keepAliveS * 1000 } = options
  return new NodeRunners({ ...around, gpus, numParallel, maxLoadedModels, maxQueue, keepAliveMs })
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  if (!server.listening) await bind(server, { host, port })
}
