import { ProxyError } from '../../shared/errors.ts'
import { ScanError } from '../../shared/json/json-walk.ts'
import { turns } from '../../shared/turns.ts'
import type { FieldNames } from './field-names.ts'
import { Scan, type Scanned, scan } from './json-fields.ts'

/** Names of fields to look for: at the top, and in `options`. */
type Names = readonly [FieldNames?, FieldNames?]

/** A body up to this size is scanned at once, in at most 2 ms; a promise would cost a small request more. */
const smallBytes = 64 * 1024
/** Bytes between two checks of the time, at most 30 ns of CPU each. */
const stepBytes = 16 * 1024

/** Scans a small body at once, a large one in turns. @throws ProxyError `bad_json`; the signal's reason. */
export function scanBody(bytes: Buffer, names: Names, signal: AbortSignal): Scanned | Promise<Scanned> {
  return bytes.length <= smallBytes ? scanAtOnce(bytes, names) : scanInTurns(bytes, names, signal)
}

function scanAtOnce(bytes: Buffer, names: Names): Scanned {
  try {
    return scan(bytes, names[0], names[1])
  } catch (error) {
    throw asProxyError(error)
  }
}

async function scanInTurns(bytes: Buffer, names: Names, signal: AbortSignal): Promise<Scanned> {
  try {
    const scanning = new Scan(bytes, names[0], names[1])
    let turn = await turns.next()
    while (!scanning.read(stepBytes)) {
      if (turn.isOver) turn = await turns.next()
      signal.throwIfAborted()
    }
    return scanning.result()
  } catch (error) {
    throw asProxyError(error)
  }
}

function asProxyError(error: unknown): unknown {
  return error instanceof ScanError ? new ProxyError('bad_json', { reason: error.message }) : error
}
