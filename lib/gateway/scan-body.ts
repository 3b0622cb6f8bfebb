import { ProxyError } from '../shared/errors.ts'
import { turns } from '../shared/turns.ts'
import { ScanError } from './json-walk.ts'
import { type FieldNames, Scan, type Scanned, scan } from './scan.ts'

/** Names of fields to look for: at the top, and in `options`. */
type Names = readonly [FieldNames?, FieldNames?]

/** A body up to here is scanned at once, in 2 ms at most; a promise would cost a small request more than that. */
const smallBytes = 64 * 1024
/** Work of one turn of the event loop, and bytes of it between two looks at the time: at most 30 ns of CPU each. */
const turnMs = 4
const stepBytes = 16 * 1024

/** See `scan`: at once for a body that is small, else in turns. @throws ProxyError `bad_json`; the signal's reason. */
export function scanBody(bytes: Buffer, names: Names, signal: AbortSignal): Scanned | Promise<Scanned> {
  return bytes.length <= smallBytes ? scanAtOnce(bytes, names) : scanInTurns(bytes, names, signal)
}

function scanAtOnce(bytes: Buffer, names: Names): Scanned {
  try {
    return scan(bytes, names[0], names[1])
  } catch (error) {
    throw told(error)
  }
}

async function scanInTurns(bytes: Buffer, names: Names, signal: AbortSignal): Promise<Scanned> {
  try {
    const scanning = new Scan(bytes, names[0], names[1])
    do {
      await turns.next()
      signal.throwIfAborted()
    } while (!readFor(turnMs, scanning))
    return scanning.result()
  } catch (error) {
    throw told(error)
  }
}

/** Returns whether all is read. */
function readFor(ms: number, scanning: Scan): boolean {
  const until = performance.now() + ms
  do {
    if (scanning.read(stepBytes)) return true
  } while (performance.now() < until)
  return false
}

function told(error: unknown): unknown {
  return error instanceof ScanError ? new ProxyError('bad_json', { reason: error.message }) : error
}
