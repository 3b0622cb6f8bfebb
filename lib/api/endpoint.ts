import type { z } from 'zod'
import type { ErrorCode } from '../shared/errors.ts'

/** Marks every JSON answer: fields are only ever added to this version. */
export const apiVersion = 'llamero/v1'

/**
 * One method of one path of the admin listener. The router and the OpenAPI document are both made from these, and the types
 * of handlers and of the CLI are inferred from their schemas.
 */
export interface Endpoint {
  readonly method: 'get' | 'put' | 'patch' | 'post' | 'delete'
  /** `:name` stands for a parameter. */
  readonly path: `/${string}`
  /** One sentence for the reader of the document. */
  readonly summary: string
  /** `open`: for load balancers and monitoring, without a token; by default see `access` of the admin listener. */
  readonly access?: 'open'
  /** What each parameter of the path means. */
  readonly params?: Readonly<Record<string, string>>
  /** Without it the path takes no parameters; a path without a token ignores them. */
  readonly query?: z.ZodObject
  /** Request headers with a meaning of their own, and that meaning. */
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Body
  /** Statuses of success; 200 by default. */
  readonly statuses?: readonly number[]
  readonly answer: Answer
  /** What the handler refuses with, besides what every request may meet. */
  readonly errors?: readonly ErrorCode[]
}

export type Endpoints = Readonly<Record<string, Endpoint>>

/** How a request's body is read. */
type Body =
  /** Checked before the handler is called; wrong fields are 422 `invalid`. */
  | { readonly fields: z.ZodType }
  /** A JSON object. The handler checks its text or the resulting document, and names faults by line. */
  | { readonly document: z.ZodType }

type Answer =
  /** JSON that begins with `apiVersion`, which its handler leaves out. */
  | { readonly json: z.ZodObject }
  /** JSON of another format. */
  | { readonly foreign: z.ZodObject }
  /** Text, and what status 503 says instead where the endpoint asks a question. */
  | { readonly text: string; readonly no?: string; readonly type?: string }
  | null

/** What a schema describes, as it is on the wire and as TypeScript reads it. */
export type Wire<S extends z.ZodType> = DeepReadonly<z.output<S>>

export type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Field in keyof T]: DeepReadonly<T[Field]> }
    : T

/** What a handler answers, and a client gets. */
export type ContentOf<E extends Endpoint> = E['answer'] extends { readonly json: infer S extends z.ZodType }
  ? Wire<S>
  : E['answer'] extends { readonly foreign: infer S extends z.ZodType }
    ? Wire<S>
    : E['answer'] extends { readonly text: string }
      ? string
      : undefined
