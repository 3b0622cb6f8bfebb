import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { referenceDirectory, referencePages } from './reference.ts'

/** `npm run docs`: writes `docs/reference/` from schemas, commands, metrics and the error catalogue. */
mkdirSync(referenceDirectory, { recursive: true })
for (const [name, text] of await referencePages()) writeFileSync(join(referenceDirectory, name), text)
