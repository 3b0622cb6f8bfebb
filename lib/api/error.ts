import { z } from 'zod'

/** The answer to every request that was refused or failed. */
export const errorAnswer = z.object({
  error: z.object({
    code: z.string().describe('code of the catalogue of errors; later versions may add codes'),
    message: z.string().describe('text for people to read'),
    hint: z.string().exactOptional().describe('what to do about it'),
  }),
})
