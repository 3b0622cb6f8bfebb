/** Characters that control a terminal or hide the order of its text. Line feeds and tabs are layout. */
export const controlCharacters = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu
/** Most text matches neither: this test costs a fifth of the test above. */
const unusual = /[^\n\t\x20-\x7e]/

/** JSON that is safe on a terminal, and means the same: JSON.stringify leaves DEL, the C1 controls and bidi characters. */
export function escapeInJson(json: string): string {
  return unusual.test(json) ? json.replace(controlCharacters, escapeOf) : json
}

/** One escape for each half of a character above U+FFFF. */
function escapeOf(character: string): string {
  return Array.from({ length: character.length }, (_, at) => {
    const code = character.charCodeAt(at)
    return `\\u${code.toString(16).padStart(4, '0')}`
  }).join('')
}
