import type { Curve } from './comparison.ts'

interface Panel {
  readonly top: number
  readonly title: string
  readonly x: Axis
  readonly y: Axis
}

interface Axis {
  readonly ticks: readonly number[]
  /** From 0 to 1 along the axis. */
  readonly place: (value: number) => number
  readonly label: (value: number) => string
}

const width = 860
const left = 60
const right = 180
const height = 260
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999']
/** More points would not change the picture. */
const mostPoints = 400

/** Draws how long callers waited for their first token (cumulative, log scale), and how many waited over time. */
export function plot(curves: readonly Curve[], title: string): string {
  const longest = Math.max(10, ...curves.map(({ ttfts }) => ttfts.at(-1) ?? 0))
  const until = Math.max(1, ...curves.map(({ samples }) => samples.at(-1)?.at ?? 0))
  const most = Math.max(10, ...curves.flatMap(({ samples }) => samples.map(({ waiting }) => waiting)))
  const share: Panel = {
    top: 50,
    title: 'Share of requests with a first token within so many seconds',
    x: logarithmic(0.01, longest),
    y: linear(1, [0, 0.25, 0.5, 0.75, 1], (value) => `${100 * value} %`),
  }
  const waiting: Panel = {
    top: 50 + height + 70,
    title: 'Requests waiting for their first token, by minutes since the beginning',
    x: linear(
      until,
      steps(until / 60).map((minutes) => minutes * 60),
      (value) => `${Math.round(value / 6) / 10}`,
    ),
    y: logarithmic(1, most),
  }
  const lines = curves.map((curve, index) => {
    const colour = colours[index % colours.length] ?? '#000000'
    const { ttfts, samples } = curve
    return [
      polyline(share, colour, thinned(ttfts.map((ttft, at) => [ttft, (at + 1) / ttfts.length]))),
      polyline(waiting, colour, thinned(samples.map((sample) => [sample.at, sample.waiting]))),
      text(width - right + 12, share.top + 14 + 20 * index, escaped(curve.policy), `fill="${colour}"`),
    ].join('')
  })
  const total = waiting.top + height + 40
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" font-family="sans-serif" font-size="13">
<rect width="${width}" height="${total}" fill="white"/>
${text(left, 20, escaped(title), 'font-weight="bold"')}
${frame(share)}
${frame(waiting)}
${lines.join('\n')}
</svg>
`
}

function frame(panel: Panel): string {
  const { top, title, x, y } = panel
  const bottom = top + height
  return [
    text(left, top - 8, title, ''),
    ...x.ticks.map((tick) => {
      const [at] = place(panel, [tick, 0])
      return `${line(at, top, at, bottom)}${text(at, bottom + 18, x.label(tick), 'text-anchor="middle"')}`
    }),
    ...y.ticks.map((tick) => {
      const [, at] = place(panel, [0, tick])
      return `${line(left, at, width - right, at)}${text(left - 6, at + 4, y.label(tick), 'text-anchor="end"')}`
    }),
  ].join('')
}

function polyline(panel: Panel, colour: string, points: readonly Point[]): string {
  const path = points.map((point) => place(panel, point).join(',')).join(' ')
  return `<polyline fill="none" stroke="${colour}" stroke-width="1.8" points="${path}"/>`
}

type Point = readonly [x: number, y: number]

function place({ top, x, y }: Panel, point: Point): [number, number] {
  const across = left + x.place(point[0]) * (width - left - right)
  const down = top + (1 - y.place(point[1])) * height
  return [Math.round(across * 10) / 10, Math.round(down * 10) / 10]
}

function linear(most: number, ticks: readonly number[], label: Axis['label']): Axis {
  return { ticks, label, place: (value) => value / most }
}

/** A value below `least` is drawn at `least`. */
function logarithmic(least: number, most: number): Axis {
  const from = Math.log10(least)
  const to = Math.ceil(Math.log10(most))
  return {
    ticks: Array.from({ length: to - from + 1 }, (_, at) => 10 ** (from + at)),
    label: String,
    place: (value) => (Math.log10(Math.max(least, value)) - from) / (to - from),
  }
}

/** Up to ten round numbers from 0. */
function steps(most: number): number[] {
  const power = 10 ** Math.floor(Math.log10(most))
  const step = [power / 10, power / 5, power / 2, power].find((size) => most / size <= 10) ?? power
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, at) => at * step)
}

function thinned(points: readonly Point[]): Point[] {
  const every = Math.max(1, Math.ceil(points.length / mostPoints))
  return points.filter((_, at) => at % every === 0 || at === points.length - 1)
}

function line(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#ddd"/>`
}

function text(x: number, y: number, words: string, look: string): string {
  return `<text x="${x}" y="${y}" ${look}>${words}</text>`
}

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
