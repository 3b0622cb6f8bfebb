import type { Clock } from '../shared/clock.ts'

/** Called with the exit code of a command that ran until it was told to stop. */
export type Finish = (exitCode: number) => void

/** One setting of this instance with its effective value and where that came from. */
export interface Setting {
  readonly name: string
  /** As typed: `--listen`; "" when it has none. */
  readonly flag: string
  readonly env: string
  readonly value: string
  readonly source: 'flag' | 'env' | 'file' | 'default'
  readonly help: string
  /** Never a flag (other users read argv in `ps`) and never printed. */
  readonly secret: boolean
}

/** Flags given to a long-running command, as typed but for the dashes: `log-level`. */
export type Flags = Record<string, string | boolean>

export interface SimulatedNode {
  readonly name: string
  /** 0: any free port. */
  readonly port: number
  /** Empty: the simulator's own choice. */
  readonly models: string[]
  /** Factor on the simulator's pace: 2 is twice as fast. */
  readonly speed: number
  readonly slots: number
}

/** The Ollama beside an agent, and the node it is registered as. */
export interface AgentOptions {
  readonly ollama: string
  /** URL by which the instances reach it. */
  readonly announce: string
  readonly labels: Readonly<Record<string, string>>
  readonly slots: number | undefined
  readonly weight: number | undefined
  readonly keepAlive: number | string | undefined
}

/** What to rehearse, as lib/rehearse.ts takes it. Times in seconds. */
export interface RehearsalRequest {
  readonly fleet: string | undefined
  readonly trace: string | undefined
  readonly policies: readonly string[]
  readonly load: number
  readonly requests: number
  readonly seeds: number
  readonly scenario: string
  readonly ttft: number
  readonly pace: number
  readonly patience: number | null
  readonly plot: string | undefined
}

/** Mean and standard deviation over rounds. */
export interface Figure {
  readonly mean: number
  readonly sd: number
}

/** How one policy did. */
export interface RehearsedPolicy {
  readonly policy: string
  readonly slo: Figure
  readonly ttft_p50_seconds: Figure
  readonly ttft_p95_seconds: Figure
  readonly ttft_p99_seconds: Figure
  readonly e2e_mean_seconds: Figure
  readonly e2e_p95_seconds: Figure
  readonly loads: Figure
  readonly unordered_loads: Figure
  readonly refused: Figure
  readonly failed: Figure
  readonly worst_tenant_slo: Figure
}

/** All that the command line touches outside itself. */
export interface CliContext {
  readonly adminUrl: string
  /** Called when a request is sent, so that commands without one need no token. */
  readonly adminToken: () => string | null
  readonly stdin: NodeJS.ReadableStream & { isTTY?: boolean }
  readonly stdout: NodeJS.WritableStream & { isTTY?: boolean; columns?: number }
  readonly stderr: NodeJS.WritableStream & { isTTY?: boolean; columns?: number; rows?: number }
  readonly colour: boolean
  readonly version: string
  readonly clock: Clock
  /** Aborts on SIGINT: the command ends with exit code 130. */
  readonly signal: AbortSignal
  readonly settings: () => readonly Setting[]
  /** Shell command that opens a file for editing. */
  readonly editor: string
  /** Commands that run until they are told to stop; each resolves to its exit code. */
  readonly run: {
    serve(flags: Flags): Promise<number>
    quickstart(flags: Flags): Promise<number>
    agent(flags: Flags, options: AgentOptions): Promise<number>
    simulateNode(options: SimulatedNode): Promise<number>
    /** Ends by itself. `onRound` is awaited before each round. */
    rehearse(
      request: RehearsalRequest,
      onRound: (policy: string, round: number) => Promise<void>,
    ): Promise<{ readonly policies: readonly RehearsedPolicy[] }>
  }
  /** The fleet rehearsed with when none is given, as the text of a fleet file. */
  defaultFleet(): Promise<string>
}
