import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Labels } from '../fleet/schema.ts'

const query = ['--query-gpu=name,memory.total', '--format=csv,noheader,nounits']
/** A driver that wakes a sleeping card takes seconds; one that hangs must not hold up the node. */
const timeoutMs = 10_000

/** Labels that tell this machine's GPUs; none when `nvidia-smi` is not there or does not work. */
export async function gpuLabels(): Promise<Labels> {
  const answer = await promisify(execFile)('nvidia-smi', query, { timeout: timeoutMs }).catch(() => null)
  return answer ? labelsOf(answer.stdout) : {}
}

/**
 * `NVIDIA L4, 23034` per GPU. Boards whose memory is the machine's own say `[N/A]` for it: then nothing is said of it.
 *
 * @returns `gpu`: the models, each once; `vram_mib`: of all GPUs together; `gpus`: how many.
 */
export function labelsOf(csv: string): Labels {
  const rows = csv
    .split('\n')
    .filter((line) => line.includes(','))
    .map((line) => line.split(',').map((cell) => cell.trim()))
  if (rows.length === 0) return {}
  const vramMib = rows.reduce((sum, [, mib]) => sum + Number(mib), 0)
  return {
    gpu: [...new Set(rows.map(([name]) => name))].join(', '),
    ...(vramMib > 0 && { vram_mib: String(vramMib) }),
    gpus: String(rows.length),
  }
}
