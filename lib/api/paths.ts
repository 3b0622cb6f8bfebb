import type { z } from 'zod'
import type { ContentOf, DeepReadonly, Endpoint } from './endpoint.ts'
import type { endpoints } from './endpoints.ts'

/**
 * Types of a path below `/admin/v1`, as a client writes it: `/jobs/${id}`, `/queue?limit=100`. Only types: the CLI does not
 * load the schemas.
 */

type Method = Endpoint['method']

/** The path itself where there is such an endpoint, else never. */
export type KnownPath<M extends Method, Path extends string> = [At<M, Path>] extends [never] ? never : Path

/** The answer of the path; null: none. */
export type AnswerAt<M extends Method, Path extends string> = Answer<At<M, Path>>

/** The body that the path takes. */
export type BodyAt<M extends Method, Path extends string> = SentTo<At<M, Path>>

type Answer<Each> = Each extends Endpoint ? (Each['answer'] extends null ? null : ContentOf<Each>) : never

type SentTo<Each> = Each extends { readonly body: { readonly fields: infer S extends z.ZodType } }
  ? Sent<z.input<S>>
  : object

/** JSON leaves out undefined fields. */
type Sent<Fields> = {
  readonly [Name in keyof Fields]: object extends Pick<Fields, Name>
    ? DeepReadonly<Fields[Name]> | undefined
    : DeepReadonly<Fields[Name]>
}

type At<M extends Method, Path extends string> = Find<
  Extract<(typeof endpoints)[keyof typeof endpoints], { readonly method: M }>,
  `/admin/v1${WithoutQuery<Path>}`
>

type WithoutQuery<Path extends string> = Path extends `${infer Bare}?${string}` ? Bare : Path

/** The endpoint with exactly this path, else the endpoints with parameters that match it. */
type Find<Each extends Endpoint, Path extends string> = Path extends string
  ? [Named<Each, Path>] extends [never]
    ? Matching<Each, Path>
    : Named<Each, Path>
  : never

type Named<Each, Path extends string> = Each extends Endpoint
  ? Path extends Each['path']
    ? Each
    : never
  : never

type Matching<Each, Path extends string> = Each extends Endpoint
  ? Path extends Pattern<Each['path']>
    ? Each
    : never
  : never

/** A path with any text in place of its parameters. */
type Pattern<Path extends string> = Path extends `${infer Before}:${string}/${infer After}`
  ? `${Before}${string}/${Pattern<After>}`
  : Path extends `${infer Before}:${string}`
    ? `${Before}${string}`
    : Path
