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
export type CommandFlags = Record<string, string | boolean>

/** The Ollama server to simulate. */
export interface SimulateOptions {
  readonly name: string
  /** 0: any free port. */
  readonly port: number
  /** Names from the simulator's own models; empty for all of them. */
  readonly models: readonly string[]
  /** Factor on the simulator's pace: 2 is twice as fast. */
  readonly speed: number
  readonly slots: number
}

/** The Ollama beside an agent, and the node it is registered as. */
export interface AgentOptions {
  /** The local Ollama's URL. */
  readonly ollama: string
  /** Its URL as instances on other hosts reach it. */
  readonly announce: string
  readonly labels: Readonly<Record<string, string>>
  readonly slots: number | undefined
  readonly weight: number | undefined
  readonly keepAlive: number | string | undefined
}

/** What `llamero simulate` was asked for. */
export interface RehearsalRequest {
  /** File; undefined: the default fleet. */
  readonly fleet: string | undefined
  /** File; undefined: requests are made up. */
  readonly trace: string | undefined
  /** Empty: all of them, and the yardstick. */
  readonly policies: readonly string[]
  /** Share of the fleet's capacity. */
  readonly load: number
  readonly requests: number
  readonly seeds: number
  readonly scenario: string
  /** Seconds to the first token, and tokens per second after it, that callers should get. */
  readonly ttft: number
  readonly pace: number
  /** Seconds after which callers without a token give up; null: never. */
  readonly patience: number | null
  /** File for a plot. */
  readonly plot: string | undefined
}

/** Mean and standard deviation over rounds. */
export interface RehearsedFigure {
  readonly mean: number
  readonly sd: number
}

/** How one policy did. */
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
  readonly refused: RehearsedFigure
  readonly failed: RehearsedFigure
  readonly worst_tenant_slo: RehearsedFigure
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
    serve(flags: CommandFlags): Promise<number>
    quickstart(flags: CommandFlags): Promise<number>
    agent(flags: CommandFlags, options: AgentOptions): Promise<number>
    simulateNode(options: SimulateOptions): Promise<number>
    /** Ends by itself. `onRound` is awaited before each round. */
    rehearse(
      request: RehearsalRequest,
      onRound: (policy: string, round: number) => Promise<void>,
    ): Promise<{ readonly policies: readonly RehearsedPolicy[] }>
  }
  /** The fleet rehearsed with when none is given, as the text of a fleet file. */
  defaultFleet(): Promise<string>
}
