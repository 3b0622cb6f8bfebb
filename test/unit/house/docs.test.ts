import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { glob } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { schemas } from '../../../lib/fleet/document-schemas.ts'
import { readDocument } from '../../../lib/fleet/documents/document.ts'
import { errorCodes } from '../../../lib/shared/errors.ts'
import { referenceDirectory, referencePages } from '../../support/reference.ts'
import { fieldsOf } from '../../support/schema-table.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const pages = new Map<string, string>()
for await (const path of glob(['README.md', 'CHANGELOG.md', 'docs/**/*.md'], { cwd: root }))
  pages.set(path, readFileSync(join(root, path), 'utf8'))

suite('the generated references', () => {
  test('are up to date: "npm run docs" would write the same', async () => {
    for (const [name, text] of await referencePages()) {
      const path = join(referenceDirectory, name)
      const stored = existsSync(path) ? readFileSync(path, 'utf8') : ''
      assert.ok(stored === text, `docs/reference/${name} is stale: run "npm run docs" and commit the result`)
    }
  })

  test('describe every field of every document', () => {
    const silent = Object.entries(schemas).flatMap(([folder, schema]) =>
      fieldsOf(schema)
        .filter(([, , , meaning]) => meaning === '')
        .map(([field]) => `${folder}: ${field}`),
    )
    assert.deepEqual(silent, [], 'add .describe(...) to the schema')
  })
})

suite('the documentation', () => {
  test('has a remedy for every error code', () => {
    const text = pages.get('docs/troubleshooting.md') ?? ''
    assert.deepEqual(
      errorCodes.filter((code) => !text.includes(`\`${code}\``)),
      [],
    )
  })

  test('marks every block of code as what it is, so that a test runs what readers can run', () => {
    const known = ['sh', 'console', 'yaml', 'text', '']
    const unknown = [...pages].flatMap(([path, text]) =>
      fencesIn(text)
        .filter(({ language }) => !known.includes(language))
        .map(({ language }) => `${path}: ${language}`),
    )
    assert.deepEqual(unknown, [])
  })

  test('shows only YAML that an operator could store', () => {
    const faulty = [...pages].flatMap(([path, text]) =>
      fencesIn(text)
        .filter(({ language }) => language === 'yaml')
        .filter(({ body }) => Object.values(schemas).every((schema) => !readDocument(body, schema).ok))
        .map(({ body }) => `${path}: ${body}`),
    )
    assert.deepEqual(faulty, [])
  })

  test('has a changelog in which each entry stands once, below a heading of its kind', () => {
    const changelog = pages.get('CHANGELOG.md') ?? ''
    const kinds = ['Added', 'Changed', 'Deprecated', 'Removed', 'Security', 'Fixed']
    const headings = [...changelog.matchAll(/^### (.+)$/gm)].map(([, heading = '']) => heading)
    assert.deepEqual(
      headings.filter((heading) => !kinds.includes(heading)),
      [],
    )
    const lines = changelog.split('\n').filter((line) => /^( {2}|- )/.test(line))
    const twice = lines.filter((line, at) => lines.indexOf(line) < at)
    assert.deepEqual(twice, [], 'a merge may have brought back old entries')
  })

  test('names only types that the code has', async () => {
    const [, section = ''] = (pages.get('docs/architecture.md') ?? '').split('## The way of a request')
    const [named = ''] = section.split('\n## ')
    const types = new Set([...named.matchAll(/`([A-Z][A-Za-z]+)`/g)].map(([, name = '']) => name))
    assert.ok(types.size > 0)
    for await (const file of glob('lib/**/*.ts', { cwd: root }))
      for (const [, name = ''] of readFileSync(join(root, file), 'utf8').matchAll(
        /^export (?:class|interface|type) (\w+)/gm,
      ))
        types.delete(name)
    assert.deepEqual([...types], [])
  })

  test('names no file or folder of the repository that is not there', () => {
    const gone = [...pages].flatMap(([path, text]) =>
      [...text.matchAll(/`((?:bin|deploy|docs|lib|test)\/[^`\s*]*)`/g)]
        .filter(([, named = '']) => !existsSync(join(root, named)))
        .map(([, named]) => `${path}: ${named}`),
    )
    assert.deepEqual(gone, [])
  })

  test('has no link that leads nowhere, and none that leads out of the repository', () => {
    const broken = [...pages].flatMap(([path, text]) =>
      linksIn(text)
        .filter((link) => !isAlive(path, link))
        .map((link) => `${path}: ${link}`),
    )
    assert.deepEqual(broken, [])
  })

  test('has every section that a comment of the code cites', async () => {
    const dead: string[] = []
    for await (const file of glob('{bin,deploy,lib,test}/**/*.{ts,service}', { cwd: root }))
      for (const [cited] of readFileSync(join(root, file), 'utf8').matchAll(
        /\bdocs\/[\w/-]+\.md(?:#[\w-]+)?/g,
      ))
        if (!isAlive('README.md', cited)) dead.push(`${file}: ${cited}`)
    assert.deepEqual(dead, [])
  })
})

function fencesIn(text: string): { readonly language: string; readonly body: string }[] {
  return [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map(([, language = '', body = '']) => ({
    language,
    body,
  }))
}

/** The targets of links and pictures, but for those on the web. */
function linksIn(text: string): string[] {
  const prose = text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^https?:/.test(target))
}

function isAlive(page: string, link: string): boolean {
  const [target = '', anchor] = link.split('#')
  const path = target === '' ? page : relative(root, join(root, dirname(page), target))
  if (path.startsWith('..') || !existsSync(join(root, path))) return false
  if (anchor === undefined) return true
  return anchorsIn(readFileSync(join(root, path), 'utf8')).has(anchor)
}

/** The anchors that GitHub makes of headings. */
function anchorsIn(text: string): Set<string> {
  const headings = text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#{1,6} (.+)$/gm)
  return new Set(
    [...headings].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, '')
        .trim()
        .replace(/\s/g, '-'),
    ),
  )
}
