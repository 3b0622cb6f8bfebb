import type { z } from 'zod'
import type { ErrorCode } from '../shared/errors.ts'

/** In every JSON answer. Within a version fields are only added. */
export const apiVersion = 'llamero/v1'

/**
 * One method of one path of the admin listener. The router and the OpenAPI document are made from these; the types of handlers
 * and of the CLI are inferred from their schemas.
 */
export interface Endpoint {
  readonly method: 'get' | 'put' | 'patch' | 'post' | 'delete'
  /** `:name` stands for a parameter. */
  readonly path: `/${string}`
  /** One sentence for the OpenAPI document. */
  readonly summary: string
  /** `open`: without a token, for load balancers and monitoring. Default: see `access` of the admin listener. */
  readonly access?: 'open'
  /** What each parameter of the path means. */
  readonly params?: Readonly<Record<string, string>>
  /** Without it the path takes no parameters; a path without a token ignores them. */
  readonly query?: z.ZodObject
  /** Request headers that the handler reads, with their meaning. */
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Body
  /** Statuses of success; 200 by default. */
  readonly statuses?: readonly number[]
  readonly answer: Answer
  /** Error codes of the handler, besides those of every request. */
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
  /** JSON. The router puts `apiVersion` in front, so handlers leave it out. */
  | { readonly json: z.ZodObject }
  /** JSON of another format. */
  | { readonly foreign: z.ZodObject }
  /** Text; `no` is the text of status 503 where the endpoint answers a yes/no question. */
  | { readonly text: string; readonly no?: string; readonly type?: string }
  | null

/** The type of a schema's values on the wire. */
export type Wire<S extends z.ZodType> = DeepReadonly<z.output<S>>

export type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Field in keyof T]: DeepReadonly<T[Field]> }
    : T

/** The type of an endpoint's answer, for its handler and its clients. */
export type ContentOf<E extends Endpoint> = E['answer'] extends { readonly json: infer S extends z.ZodType }
  ? Wire<S>
  : E['answer'] extends { readonly foreign: infer S extends z.ZodType }
    ? Wire<S>
    : E['answer'] extends { readonly text: string }
      ? string
      : undefined
