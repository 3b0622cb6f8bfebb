import stringWidth from 'string-width'

const graphemes = new Intl.Segmenter()

/** Columns of a terminal that a text without control characters takes: two for 模 or an emoji, none for an accent of its own. */
export function columnsOf(text: string): number {
  return stringWidth(text)
}

/** The beginning of a text that fits into so many columns. */
export function cutTo(columns: number, text: string): string {
  let end = 0
  let taken = 0
  for (const { segment } of graphemes.segment(text)) {
    taken += columnsOf(segment)
    if (taken > columns) break
    end += segment.length
  }
  return text.slice(0, end)
}

/** A text followed, or if it is aligned to the right preceded, by blanks up to so many columns. */
export function padTo(columns: number, text: string, align?: 'right'): string {
  const blanks = ' '.repeat(Math.max(0, columns - columnsOf(text)))
  return align === 'right' ? blanks + text : text + blanks
}
