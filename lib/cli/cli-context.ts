import type { Clock } from '../shared/clock.ts'

/** Called with the exit code of a command that ran until a signal stopped it. */
export type Finish = (exitCode: number) => void

/** One setting of this instance, with its effective value and the source of the value. */
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

/** Flags of a long-running command, without their dashes: `log-level`. */
export type CommandFlags = Record<string, string | boolean>

/** The Ollama server to simulate. */
export interface SimulateOptions {
  readonly name: string
  /** 0: any free port. */
  readonly port: number
  /** Names of models that the simulator knows; empty: all of them. */
  readonly models: readonly string[]
  /** Factor on the simulator's pace: 2 is twice as fast. */
  readonly speed: number
  readonly slots: number
}

/** The Ollama on the host of an agent, and the node as which the agent registers it. */
export interface AgentOptions {
  /** The local Ollama's URL. */
  readonly ollama: string
  /** The URL at which instances on other hosts reach it. */
  readonly announce: string
  readonly labels: Readonly<Record<string, string>>
  readonly slots: number | undefined
  readonly weight: number | undefined
  readonly keepAlive: number | string | undefined
}

/** The options of `llamero simulate`. */
export interface RehearsalRequest {
  /** File; undefined: the default fleet. */
  readonly fleet: string | undefined
  /** File; undefined: generated requests. */
  readonly trace: string | undefined
  /** Empty: all of them, and the ideal policy to compare with. */
  readonly policies: readonly string[]
  /** Share of the fleet's capacity. */
  readonly load: number
  readonly requests: number
  readonly seeds: number
  readonly scenario: string
  /** Instances of llamero in front of the fleet. */
  readonly instances: number
  /** The service level: seconds to the first token, and tokens per second after it. */
  readonly ttft: number
  readonly pace: number
  /** Seconds after which a caller that has received no token leaves; null: never. */
  readonly patience: number | null
  /** File for a plot. */
  readonly plot: string | undefined
}

/** Mean and standard deviation over rounds. */
export interface RehearsedFigure {
  readonly mean: number
  readonly sd: number
}

/** The results of one policy. */
export interface RehearsedPolicy {
  readonly policy: string
  readonly slo: RehearsedFigure
  readonly ttft_p50_seconds: RehearsedFigure
  readonly ttft_p95_seconds: RehearsedFigure
  readonly ttft_p99_seconds: RehearsedFigure
  readonly e2e_mean_seconds: RehearsedFigure
  readonly e2e_p95_seconds: RehearsedFigure
  readonly loads: RehearsedFigure
  readonly unordered_loads: RehearsedFigure
  readonly beyond_slots: RehearsedFigure
  readonly refused: RehearsedFigure
  readonly failed: RehearsedFigure
  readonly worst_tenant_slo: RehearsedFigure
}

/** Everything outside the CLI that commands use. */
export interface CliContext {
  readonly adminUrl: string
  /** Called when a request is sent: commands that send none need no token. */
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
  /** Commands that run until a signal stops them; each resolves to its exit code. */
  readonly run: {
    serve(flags: CommandFlags): Promise<number>
    quickstart(flags: CommandFlags): Promise<number>
    agent(flags: CommandFlags, options: AgentOptions): Promise<number>
    simulateNode(options: SimulateOptions): Promise<number>
    /** Ends without a signal. `onRound` is awaited before each round. */
    rehearse(
      request: RehearsalRequest,
      onRound: (policy: string, round: number) => Promise<void>,
    ): Promise<{ readonly policies: readonly RehearsedPolicy[] }>
  }
  /** The default fleet of the rehearsal, as the text of a fleet file. */
  defaultFleet(): Promise<string>
}
