import { z } from 'zod'

/** The answer to every request that was refused or failed. */
export const errorAnswer = z.object({
  error: z.object({
    code: z.string().describe('from the catalogue of errors; later versions may add some'),
    message: z.string().describe('for people'),
  }),
})
