/** Whether `glob` covers `text`, without regard to case. `*` is the only wildcard, so this is linear. */
export function matchesGlob(glob: string, text: string): boolean {
  if (glob === '*') return true
  const pieces = glob.toLowerCase().split('*')
  const subject = text.toLowerCase()
  const first = pieces.shift() ?? ''
  if (pieces.length === 0) return subject === first
  const last = pieces.pop() ?? ''
  if (!subject.startsWith(first) || subject.length < first.length + last.length || !subject.endsWith(last))
    return false
  let at = first.length
  for (const piece of pieces) {
    const found = subject.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
  }
  return at <= subject.length - last.length
}
