import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Labels } from '../fleet/documents/field-schemas.ts'

const query = ['--query-gpu=name,memory.total', '--format=csv,noheader,nounits']
/** A driver takes seconds to wake a sleeping card. One that hangs must not block the registration of the node. */
const timeoutMs = 10_000

/** Labels that describe the GPUs of this machine; empty when `nvidia-smi` is missing or fails. */
export async function gpuLabels(): Promise<Labels> {
  const answer = await promisify(execFile)('nvidia-smi', query, { timeout: timeoutMs }).catch(() => null)
  return answer ? labelsOf(answer.stdout) : {}
}

/**
 * Reads one line per GPU, for example `NVIDIA L4, 23034`. Boards that share the memory of the machine print `[N/A]`; then
 * the labels have no `vram_mib`.
 *
 * @returns `gpu`: the models, each once; `vram_mib`: the sum of all GPUs; `gpus`: their number.
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
