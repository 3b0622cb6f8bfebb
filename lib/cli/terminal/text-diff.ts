import { styleText } from 'node:util'
import { createTwoFilesPatch, FILE_HEADERS_ONLY } from 'diff'
import { printable } from './table.ts'

/** A text and its name in the diff. */
export interface Version {
  readonly name: string
  readonly text: string
}

/** The difference of two texts in the format of `diff -u`; "" when they are equal. */
export function textDiff(from: Version, to: Version, colour: boolean): string {
  if (from.text === to.text) return ''
  const patch = createTwoFilesPatch(from.name, to.name, from.text, to.text, undefined, undefined, {
    context: 3,
    headerOptions: FILE_HEADERS_ONLY,
  })
  const lines = patch.trimEnd().split('\n').map(printable)
  return `${lines.map((line) => (colour ? tint(line) : line)).join('\n')}\n`
}

function tint(line: string): string {
  const tone = { '+': 'green', '-': 'red', '@': 'cyan' } as const
  const style = tone[line[0] as keyof typeof tone]
  return style ? styleText(style, line, { validateStream: false }) : line
}
