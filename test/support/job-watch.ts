import { setTimeout as sleep } from 'node:timers/promises'
import { Ollama } from 'ollama'
import type { JobState } from '../../lib/fleet/job.ts'
import type { NodeReport } from '../../lib/gateway/jobs/job-report.ts'
import type { SimulatedNode } from '../../lib/simulation/http/simulated-node.ts'
import type { InstanceProcess } from './processes.ts'

/** A job as the admin API shows it. */
export interface Job {
  readonly state: JobState
  readonly nodes: Readonly<Record<string, NodeReport>>
}

/** Looks at a job from every instance that lives, again and again, and compares what they say with what the nodes have. */
export class JobWatch implements AsyncDisposable {
  /** What was said to be there and was not. */
  readonly lies: string[] = []
  /** Nodes that had less than before. */
  readonly losers = new Set<string>()
  readonly #completed = new Map<string, number>()
  readonly #running: Promise<void>
  #isStopped = false

  constructor(
    instances: readonly InstanceProcess[],
    nodes: readonly SimulatedNode[],
    id: string,
    model: string,
  ) {
    this.#running = this.#run(instances, nodes, id, model)
  }

  async stop(): Promise<void> {
    this.#isStopped = true
    await this.#running
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #run(
    instances: readonly InstanceProcess[],
    nodes: readonly SimulatedNode[],
    id: string,
    model: string,
  ): Promise<void> {
    while (!this.#isStopped) {
      for (const instance of instances) {
        const said = await claims(instance, id, model).catch(() => null) // it was killed
        for (const node of nodes) {
          const claim = said?.get(node.name)
          if (claim && !(await has(node, model).catch(() => false)))
            this.lies.push(`${instance.name} of ${node.name}: ${claim}`)
        }
        await this.#compare(instance, id).catch(() => {}) // it was killed
      }
      await sleep(50)
    }
  }

  async #compare(instance: InstanceProcess, id: string): Promise<void> {
    for (const [name, { completed }] of Object.entries((await jobAt(instance, id)).nodes)) {
      const seen = `${instance.name} of ${name}`
      if (completed < (this.#completed.get(seen) ?? 0)) this.losers.add(name)
      this.#completed.set(seen, completed)
    }
  }
}

/** The nodes that have the model as the instance tells, and where it tells so. */
async function claims(instance: InstanceProcess, id: string, model: string): Promise<Map<string, string>> {
  const { state, nodes } = await jobAt(instance, id)
  const row = (await modelsAt(instance)).find(({ name }) => name === model)
  return new Map([
    ...(row?.nodes ?? []).map((name) => [name, 'listed'] as const),
    ...Object.entries(nodes).flatMap(([name, report]) =>
      report.state === 'done' || state === 'done' ? [[name, 'done'] as const] : [],
    ),
  ])
}

export async function jobAt(instance: InstanceProcess, id: string): Promise<Job> {
  return (await instance.admin(`jobs/${id}`)) as unknown as Job
}

interface ModelRow {
  readonly name: string
  readonly nodes: readonly string[]
  readonly older_on?: readonly string[]
}

export async function modelsAt(instance: InstanceProcess): Promise<readonly ModelRow[]> {
  return (await instance.admin('models'))['models'] as ModelRow[]
}

/** Whether the node's own list has the model. */
export async function has({ url }: SimulatedNode, model: string): Promise<boolean> {
  return (await new Ollama({ host: url }).list()).models.some(({ name }) => name === model)
}
