import { z } from 'zod'
import type { Wire } from './endpoint.ts'

export const faultAnswer = z.object({
  path: z.string().describe('dotted path of the field; "" for the document itself'),
  line: z.int().nullable().describe('line of the text, from 1; null when it is not known'),
  message: z.string(),
  hint: z.string().exactOptional().describe('what was probably meant'),
})

export const rejectedDocument = z.object({
  key: z.string().describe('of the document in the store'),
  errors: z.array(faultAnswer),
})
export type RejectedDocument = Wire<typeof rejectedDocument>

/** Fields of a stored document and of the verdict on it. */
export const storedFields = {
  text: z.string().nullable().describe('the document as the operator wrote it; null when there is none'),
  modified: z
    .string()
    .nullable()
    .describe('revision of the document, for If-Match; null when there is no document'),
  ok: z.boolean().describe('whether this text is in force'),
  errors: z
    .array(faultAnswer)
    .describe('why the text is not in force; the last valid version stays in force'),
  warnings: z.array(z.string()).describe('warnings about a document that is in force'),
}
export const storedAnswer = z.object(storedFields)
/** A stored document and the verdict on it. */
export type StoredAnswer = Wire<typeof storedAnswer>

/** A document as text, with its comments and the order of its fields. */
export const textFields = { text: z.string().describe('the whole document, as YAML or JSON') }

/** A body that is the document, or contains its text. */
export const documentOrText = <S extends z.ZodType>(document: S) =>
  z.union([document, z.strictObject(textFields)])

/** Fields to set in a stored document. */
export const patchBody = z
  .record(z.string(), z.unknown())
  .describe(
    'fields to set; null removes a field. Labels and other maps are merged, everything else is replaced. Comments of the document stay',
  )

/** Request headers that name the version which a change replaces. */
export const seenHeaders = {
  'if-match': 'the revision ("modified") that the caller has seen: 409 when the document has changed since',
  'if-none-match': '"*": the document must not exist yet, else 409',
}
