/** Order of two versions of Ollama: `0.9.6` comes before `0.32.10`, and a text that is no version before both. */
export function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

/** Whether a version is from before a release; its candidates count as the release. Builds from source say 0.0.0. */
export function isBefore(version: string, release: string): boolean {
  const [a, b] = [numbersOf(version), numbersOf(release)]
  const nth = a.findIndex((number, at) => number !== b[at])
  return nth >= 0 && (a[nth] ?? 0) < (b[nth] ?? 0)
}

/** Whether a version names a release. */
export function isRelease(version: string): boolean {
  return numbersOf(version).some((number) => number > 0)
}

function numbersOf(version: string): readonly number[] {
  const [, ...parts] = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version) ?? []
  return [0, 1, 2].map((nth) => Number(parts[nth] ?? 0))
}
