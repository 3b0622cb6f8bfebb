import { z } from 'zod'
import { givenDuration } from './documents/field-schemas.ts'
import { isStoreName, storeNameRule } from './documents/names.ts'

/** The class of requests for which neither a route nor a key names a class. */
export const defaultClass = 'default'

/** The name of a class in another document: an unknown class causes a warning, not the rejection of the document. */
export const className = z.string().refine(isStoreName, storeNameRule)

/** `classes` in `R/config`: how urgent requests are, the most urgent first. */
export const classesSchema = z
  .array(
    z.strictObject({
      name: className.describe('name that routes and keys use; one class must be "default"'),
      max_wait: givenDuration()
        .exactOptional()
        .describe('longest wait for a slot, instead of queue.max_wait'),
    }),
  )
  .max(20)
  .superRefine((classes, { addIssue }) => {
    const names = classes.map(({ name }) => name)
    for (const [at, name] of names.entries())
      if (names.indexOf(name) < at)
        addIssue({ code: 'custom', path: [at, 'name'], message: `another class is named "${name}" already` })
    if (!names.includes(defaultClass))
      addIssue({
        code: 'custom',
        message: `one class must be named "${defaultClass}": requests get it where neither a route nor a key names a class`,
      })
  })
type Classes = z.output<typeof classesSchema>

/** The rank of a class, 0 being the most urgent. An unknown class ranks like "default". */
export function rankOf(name: string, classes: Classes): number {
  const at = classes.findIndex((each) => each.name === name)
  return at >= 0 ? at : classes.findIndex((each) => each.name === defaultClass)
}
