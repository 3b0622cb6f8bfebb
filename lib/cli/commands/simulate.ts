import { setImmediate } from 'node:timers/promises'
import { type Command, Option } from 'commander'
import { ProxyError } from '../../shared/errors.ts'
import type { Finish, RehearsedFigure, RehearsedPolicy } from '../cli-context.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import { durationOption, numberOption, type Output, repeated, withOutput } from '../command-options.ts'
import type { Invocation } from '../invocation.ts'
import { type Column, table } from '../terminal/table.ts'

interface SimulateOptions {
  readonly fleet?: string
  readonly trace?: string
  readonly policy?: readonly string[]
  readonly load: number
  readonly requests: number
  readonly seeds: number
  readonly scenario: string
  readonly instances: number
  /** Milliseconds. */
  readonly ttft: number
  readonly pace: number
  /** Milliseconds. */
  readonly patience?: number
  readonly plot?: string
  readonly printFleet?: true
  readonly output: Output
}

/** `simulate`: traffic on virtual nodes; `simulate node`: a simulated Ollama server on a real port. */
export function fillSimulate(simulate: Command, invocation: Invocation, finish: Finish): void {
  const { run } = invocation.context
  withOutput(simulate)
    .option('--fleet <file>', 'file with nodes and models; see --print-fleet')
    .option('--print-fleet', 'print the default fleet, as a file to start from')
    .option('--trace <file>', 'CSV of timestamp_s,prompt_tokens,output_tokens; default: generated requests')
    .option('--policy <name>', 'a policy that chooses nodes; may be repeated; default: all', repeated)
    .option('--load <share>', "load as a share of the fleet's capacity", numberOption(0.01, 100), 0.7)
    .option('--requests <number>', 'number of requests', numberOption(10, 1_000_000), 5000)
    .option('--seeds <number>', 'rounds, each with another random seed', numberOption(1, 1000), 3)
    .option('--scenario <name>', 'steady, noisy-tenant, slow-node or dead-node', 'steady')
    .option('--instances <number>', 'instances of llamero that share the fleet', numberOption(1, 100), 1)
    .option('--pace <number>', 'tokens per second that callers should get', numberOption(0), 5)
    .option('--plot <file>', 'write a plot of waiting times and queues, as SVG')
    .addOption(
      new Option('--ttft <duration>', 'time to the first token that callers should get')
        .argParser(durationOption)
        .default(5000, '5s'),
    )
    .addOption(
      new Option('--patience <duration>', 'time after which callers without a token leave').argParser(
        durationOption,
      ),
    )
    .addHelpText(
      'after',
      `
Examples:
  llamero simulate --print-fleet > fleet.yaml
  llamero simulate --fleet fleet.yaml --policy earliest-finish --load 0.85 --plot waits.svg`,
    )
    .action(async (options) => rehearse(invocation, options))

  simulate
    .command('node <name>')
    .description('run a simulated Ollama server')
    .option('--port <port>', 'port that it listens on; 0: any free port', numberOption(0, 65_535), 0)
    .option('--model <model>', 'a model that it has; may be repeated', repeated)
    .option('--speed <factor>', 'speed; 2 is twice as fast', numberOption(0.001), 1)
    .option('--slots <number>', 'requests that it runs at once per model', numberOption(1), 1)
    .action(async (name, { port, model, speed, slots }) =>
      finish(await run.simulateNode({ name, port, models: model ?? [], speed, slots })),
    )
}

async function rehearse({ context, terminal }: Invocation, options: SimulateOptions): Promise<void> {
  const { run, signal } = context
  if (options.printFleet) return terminal.write(await context.defaultFleet())
  const onRound = async (policy: string, round: number) => {
    if (context.stderr.isTTY) terminal.progress(`${policy}, round ${round} of ${options.seeds}`)
    // A round blocks the event loop; Ctrl-C is noticed here, between rounds.
    await setImmediate()
    signal.throwIfAborted()
  }
  const { policy = [], ttft, patience, fleet, trace, plot } = options
  const request = {
    ...options,
    fleet,
    trace,
    plot,
    policies: policy,
    requests: Math.round(options.requests),
    seeds: Math.round(options.seeds),
    instances: Math.round(options.instances),
    ttft: ttft / 1000,
    patience: patience === undefined ? null : patience / 1000,
  }
  const report = await run.rehearse(request, onRound).catch((error: unknown) => {
    if (!(error instanceof ProxyError)) throw error
    throw new CliFailure(exits.invalid, error.message)
  })
  terminal.endProgress()
  terminal.show(report, options.output, (look) => table(columns, report.policies, look))
}

const percent = ({ mean, sd }: RehearsedFigure) => `${(100 * mean).toFixed(1)} ±${(100 * sd).toFixed(1)}`
const seconds = ({ mean }: RehearsedFigure) => (mean < 10 ? mean.toFixed(2) : mean.toFixed(1))
const whole = ({ mean }: RehearsedFigure) => mean.toFixed(0)

const columns: readonly Column<RehearsedPolicy>[] = [
  { title: 'POLICY', cell: ({ policy }) => policy },
  { title: 'SLO %', cell: ({ slo }) => percent(slo), align: 'right' },
  { title: 'TTFT P50', cell: (row) => seconds(row.ttft_p50_seconds), align: 'right' },
  { title: 'P95', cell: (row) => seconds(row.ttft_p95_seconds), align: 'right' },
  { title: 'P99', cell: (row) => seconds(row.ttft_p99_seconds), align: 'right' },
  { title: 'E2E MEAN', cell: (row) => seconds(row.e2e_mean_seconds), align: 'right' },
  { title: 'P95', cell: (row) => seconds(row.e2e_p95_seconds), align: 'right' },
  { title: 'LOADS', cell: ({ loads }) => whole(loads), align: 'right' },
  { title: 'UNORDERED', cell: (row) => whole(row.unordered_loads), align: 'right', wide: true },
  { title: 'BEYOND SLOTS %', cell: (row) => percent(row.beyond_slots), align: 'right' },
  { title: 'REFUSED', cell: ({ refused }) => whole(refused), align: 'right' },
  { title: 'FAILED', cell: ({ failed }) => whole(failed), align: 'right' },
  { title: 'WORST TENANT %', cell: (row) => percent(row.worst_tenant_slo), align: 'right' },
]
