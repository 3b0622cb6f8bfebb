const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const colon = 0x3a
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** Brackets that may be open at once. */
const maxDepth = 64
/** Objects, lists and fields together: each costs the parser ten times as much as an item of a list. */
const maxParts = 20_000
const maxItems = 250_000

/**
 * Whether `JSON.parse` of this text takes milliseconds, if it is JSON at all. A megabyte of brackets takes it a tenth of a
 * second, in which the event loop waits; this check takes some 3 ns a character.
 */
export function isModestJson(text: string): boolean {
  let depth = 0
  let parts = 0
  let items = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote:
        at = endOfString(text, at + 1)
        break
      case comma:
        if (++items > maxItems) return false
        break
      case colon:
        if (++parts > maxParts) return false
        break
      case openBrace:
      case openBracket:
        if (++depth > maxDepth || ++parts > maxParts) return false
        break
      case closeBrace:
      case closeBracket:
        depth--
        break
    }
  }
  return true
}

/** Where the closing quote is; the end of the text when there is none. */
function endOfString(text: string, from: number): number {
  for (let at = from; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === quote) return at
    if (code === backslash) at++
  }
  return text.length
}
