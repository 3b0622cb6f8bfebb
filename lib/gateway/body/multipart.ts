import { ProxyError } from '../../shared/errors.ts'

/** The value of a field and its range. */
export interface FormField {
  readonly value: string
  readonly start: number
  readonly end: number
}

/** Limits of the head of a part, and of the wanted value. */
const maxHeadBytes = 16 * 1024
const maxValueBytes = 1024
const contentType = /^multipart\/form-data *; *boundary=(?:"([^"\\\r\n]{1,70})"|([\w'+./:=?-]{1,70})) *$/i
const disposition = /^form-data((?: *; *[\w!#$&+.^`|~*-]+ *= *(?:"(?:[^"\\]|\\.)*"|[^\s;"]+))+) *$/i
const parameter = /; *([\w!#$&+.^`|~*-]+) *= *(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))/g
const blankLine = '\r\n\r\n'

/**
 * Finds the first field with a name in a multipart form that is still coming, without reading a byte twice. Go takes
 * the first as well. A form that Go might read differently, such as one with bare line feeds, is refused: what is
 * authorised must be what runs (docs/ollama.md#requests).
 */
export class FormReader {
  readonly #wanted: string
  readonly #delimiter: Buffer
  /** Position of the next element: the line break before or behind a delimiter, or the content of a part. */
  #at = 0
  #place: 'opening' | 'head' | 'content' | 'wanted' = 'opening'
  /** The content is not searched yet from here on. */
  #searched = 0

  /** @param type the form's Content-Type. @throws ProxyError `bad_form`. */
  constructor(type: string | undefined, wanted: string) {
    const match = contentType.exec(type ?? '')
    if (!match) throw bad('Content-Type must be multipart/form-data with a boundary, and nothing else')
    this.#wanted = wanted
    this.#delimiter = Buffer.from(`\r\n--${match[1] ?? match[2]}`)
  }

  /** The field, or null while it has not come. `bytes` are all bytes so far. @throws ProxyError `bad_form`. */
  find(bytes: Buffer): FormField | null {
    for (;;) {
      const before = this.#place
      if (before === 'opening') this.#open(bytes)
      else if (before === 'head') this.#head(bytes)
      else {
        const field = this.#content(bytes)
        if (field) return field
      }
      if (this.#place === before) return null
    }
  }

  #open(bytes: Buffer): void {
    const opening = this.#delimiter.subarray(2)
    if (bytes.length < opening.length + 2) return
    if (!bytes.subarray(0, opening.length).equals(opening)) throw bad('it must begin with its boundary')
    this.#enter(bytes, opening.length)
  }

  /** Reads behind a delimiter: another part, or the end. */
  #enter(bytes: Buffer, at: number): void {
    const mark = bytes.toString('latin1', at, at + 2)
    if (mark === '--') throw new ProxyError('missing_model')
    if (mark !== '\r\n') throw bad('a boundary must end its line')
    this.#at = at
    this.#place = 'head'
  }

  #head(bytes: Buffer): void {
    const end = bytes.indexOf(blankLine, this.#at)
    const length = (end < 0 ? bytes.length : end) - this.#at
    if (length > maxHeadBytes) throw bad('the head of a part is too long')
    if (end < 0) return
    this.#place = isField(this.#wanted, bytes.toString('utf8', this.#at + 2, end)) ? 'wanted' : 'content'
    this.#at = end + blankLine.length
    // The line break that ends the head may also begin the next delimiter, when the content is empty.
    this.#searched = this.#at - 2
  }

  #content(bytes: Buffer): FormField | null {
    const end = bytes.indexOf(this.#delimiter, this.#searched)
    if (
      this.#place === 'wanted' &&
      (end < 0 ? bytes.length : end) - this.#at > maxValueBytes + this.#delimiter.length
    )
      throw bad(`the field "${this.#wanted}" is too long`)
    if (end < 0 || bytes.length < end + this.#delimiter.length + 2) {
      this.#searched = Math.max(this.#searched, end < 0 ? bytes.length - this.#delimiter.length : end)
      return null
    }
    if (this.#place === 'wanted')
      return { value: bytes.toString('utf8', this.#at, end), start: this.#at, end }
    this.#enter(bytes, end + this.#delimiter.length)
    return null
  }
}

/** Whether a part is the field `wanted`. @throws ProxyError `bad_form`. */
function isField(wanted: string, head: string): boolean {
  const lines = head.split('\r\n').map((line) => /^([\w-]+): *([^\r\n\0]*)$/.exec(line))
  const values = (name: string) =>
    lines.filter((line) => line?.[1]?.toLowerCase() === name).map((line) => line?.[2])
  const [text = '', second] = values('content-disposition')
  if (lines.includes(null) || second !== undefined || !disposition.test(text))
    throw bad('each part must have one Content-Disposition, "form-data", and no line that is no header')
  // An encoding could hide any name.
  if (values('content-transfer-encoding').some((value) => !/^(?:binary|[78]bit)$/i.test(value ?? '')))
    throw bad('Content-Transfer-Encoding is not understood')
  const names = [...text.matchAll(parameter)].filter(([, name = '']) => /^name(?:\*|$)/i.test(name))
  const [, name = '', quoted, token] = names[0] ?? []
  if (names.length !== 1 || name.endsWith('*')) throw bad('each part must have one plain name')
  if ((quoted?.replace(/\\(.)/g, '$1') ?? token) !== wanted) return false
  const written = text.replace(/^form-data; *name=/i, '')
  if (written !== wanted && written !== `"${wanted}"`)
    throw bad(`the field "${wanted}" must have a name and nothing else`)
  return true
}

function bad(reason: string): ProxyError {
  return new ProxyError('bad_form', { reason })
}
