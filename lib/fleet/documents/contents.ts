/** Faults in one sentence: `line 4: routing.attempts must be a number; did you mean ...`. */
export function describeFaults(faults: readonly DocumentFault[]): string {
  return faults
    .map((fault) => {
      const where = [
        fault.line === null ? '' : `line ${fault.line}: `,
        fault.path ? `${fault.path}: ` : '',
      ].join('')
      return `${where}${fault.message}${fault.hint ? ` (${fault.hint})` : ''}`
    })
    .join('; ')
}
/** The content of a document's text, before any schema. */
export interface Contents {
  readonly value: unknown
  /** 1-based line of a field; null when the text does not have it. */
  lineOf(path: readonly PropertyKey[]): number | null
}

/** One fault of a document. */
export interface DocumentFault {
  /** Dotted path of the field, "" for the document itself. */
  readonly path: string
  /** 1-based line of the text, where it can be told. */
  readonly line: number | null
  readonly message: string
  readonly hint?: string
}

/** Maps and lists open at once. */
export const maxDepth = 100

/** Most faults reported of one document; of a thousand, most follow from the first ones. */
const maxFaults = 20
/** Characters of a path or message, which may quote the document. */
const maxTextLength = 300

/** Why a document is refused as a whole. */
export function refusal(message: string): DocumentFault[] {
  return [{ path: '', line: null, message }]
}

/** The first faults, and how many more there are. `make` is called for the reported ones only. */
export function limitFaults<T>(found: readonly T[], make: (each: T) => DocumentFault): DocumentFault[] {
  if (found.length <= maxFaults) return found.map((each) => shortened(make(each)))
  const more = found.length - maxFaults + 1
  return [
    ...found.slice(0, maxFaults - 1).map((each) => shortened(make(each))),
    { path: '', line: null, message: `and ${more} more faults` },
  ]
}

/** 1-based line of a place in a text. */
export function lineAt(text: string, offset: number): number {
  let line = 1
  for (let at = text.indexOf('\n'); at >= 0 && at < offset; at = text.indexOf('\n', at + 1)) line++
  return line
}

function shortened(fault: DocumentFault): DocumentFault {
  return { ...fault, path: cut(fault.path), message: cut(fault.message) }
}

function cut(text: string): string {
  return text.length > maxTextLength ? `${text.slice(0, maxTextLength)}…` : text
}
