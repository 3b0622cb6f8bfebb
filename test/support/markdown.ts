/** A generated page. */
export function page(title: string, ...parts: readonly string[]): string {
  const note = '<!-- Written by `npm run docs`. Change the code instead. -->'
  return `${[`# ${title}`, note, ...parts].join('\n\n')}\n`
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}

/** Text that Markdown would otherwise take for markup. */
export const plain = (text: string) => text.replaceAll('*', '\\*').replaceAll('<', '&lt;')

export const code = (text: string) => (text === '' ? '' : `\`${text}\``)
