import { z } from 'zod'
import { callersSchema, modelOptionsSchema } from './caller-options.ts'
import { classesSchema, className } from './classes.ts'
import { cidr, copies, duration, hostGlob, labels, modelGlob } from './documents/field-schemas.ts'
import { isObjectName, objectNameRule } from './documents/names.ts'
import { keepAliveSchema } from './keep-alive.ts'
import { policies } from './policies.ts'
import { scopes } from './scopes.ts'

/** What Ollama itself allows: pages of the caller's own machine, and of applications (docs/ollama.md#http). */
const ollamaOrigins = [
  ...['localhost', '127.0.0.1', '0.0.0.0'].flatMap((host) =>
    ['http', 'https'].flatMap((scheme) => [`${scheme}://${host}`, `${scheme}://${host}:*`]),
  ),
  ...['app', 'file', 'tauri', 'vscode-webview', 'vscode-file'].map((scheme) => `${scheme}://*`),
]

/** The value of `routing.unknown_paths` that is no node's name. */
export const byModel = 'model'

const nodeName = z.string().refine(isObjectName, objectNameRule)

/**
 * `R/config`: how the whole cluster behaves. Every field has a default, so an absent document is a valid one.
 * In memory durations are milliseconds.
 */
export const configSchema = z.strictObject({
  routing: z
    .strictObject({
      default_slots: z
        .int()
        .min(1)
        .max(1024)
        .default(1)
        .describe(
          'requests a node runs at once per model to begin with, when its own document names no slots: then that is learned',
        ),
      policy: z
        .enum(policies)
        .default('earliest-finish')
        .describe(
          'how nodes are chosen; all but earliest-finish exist for comparison, and send requests on at once',
        ),
      attempts: z.int().min(1).max(10).default(3).describe('nodes tried for one request before it fails'),
      keep_alive: keepAliveSchema
        .default('1h')
        .describe(
          'how long models that llamero loads stay in memory after their last request, on nodes whose document does not say; "own": as the OLLAMA_KEEP_ALIVE of each node says. Where Ollama makes room by itself, it unloads first what stays for the shortest',
        ),
      unknown_paths: nodeName
        .optional()
        .describe(
          'what becomes of paths of /api and /v1 that llamero does not know: model: a POST with a JSON body that names a model goes the way of all requests, to a node that has it; the name of a node: that node gets them all; without it, 404',
        ),
    })
    .prefault({}),
  queue: z
    .strictObject({
      max_length: z
        .int()
        .min(0)
        .max(100_000)
        .default(1000)
        .describe(
          'requests that may wait for a slot on one instance; of more, the last of the least urgent class goes',
        ),
      max_wait: duration('60s').describe('longest wait for a slot, of classes that name none'),
      shares: z
        .record(z.string().min(1).max(100), z.number().min(0.01).max(100))
        .default({})
        .describe('how much a tenant is served against others while they wait, by name; 1 for all others'),
    })
    .prefault({}),
  classes: classesSchema
    .default([{ name: 'interactive' }, { name: 'default' }, { name: 'batch', max_wait: 600_000 }])
    .describe(
      'priority classes, the most urgent first; without it interactive, default and batch, which may wait for 10m. Waiting for 30 s lifts a request by one class',
    ),
  timeouts: z
    .strictObject({
      connect: duration('2s', { max: 60_000 }).describe('longest time for a connection to a node'),
      first_token: duration('300s').describe(
        'longest silence of a node before a streamed answer; a cold load is not a hang',
      ),
      whole_answer: duration('15m').describe('longest time for an answer that is not streamed'),
      between_tokens: duration('60s').describe('longest silence of a node within an answer'),
      request: duration('1h').describe('longest time of a whole request, its waiting and retries included'),
      idle_write: duration('60s').describe(
        'how long a caller may leave an answer unread before it is cut off',
      ),
      idle_upload: duration('60s').describe('longest pause within a body that is passed on while it comes'),
    })
    .prefault({}),
  probes: z
    .strictObject({
      interval: duration('2s', { min: 100, max: 600_000 }).describe('pause between two probes of a node'),
      timeout: duration('1s', { min: 10, max: 60_000 }).describe('longest time for one probe'),
      rise: z
        .int()
        .min(1)
        .max(100)
        .default(2)
        .describe('answered probes in a row before a node is better than it was: up, or slow after down'),
      fall: z
        .int()
        .min(1)
        .max(100)
        .default(3)
        .describe(
          'failed probes in a row before a node is worse than it was: down; slow where they timed out',
        ),
    })
    .prefault({}),
  breaker: z
    .strictObject({
      failures: z
        .int()
        .min(1)
        .max(1000)
        .default(5)
        .describe('requests within 30 s, more than half of them failed, that open it'),
      reset: duration('5s', { min: 100, max: 600_000 }).describe(
        'first pause before one request tries a node again, and of a busy node; doubles each time',
      ),
      max_reset: duration('20s', { min: 100, max: 600_000 }).describe('longest such pause'),
      slow_start: duration('5s', { min: 0, max: 600_000 }).describe(
        'a node that recovers begins with one slot per model, and gets one more after each such time, or a sixth of them if that is more; 0s: all at once',
      ),
    })
    .prefault({}),
  limits: z
    .strictObject({
      body_bytes: z
        .int()
        .min(1024)
        .max(1024 ** 3)
        .default(64 * 1024 ** 2)
        .describe('largest request body'),
      inflight_body_bytes: z
        .int()
        .min(1024)
        .default(512 * 1024 ** 2)
        .describe(
          'request bodies that one instance holds at once, together; one largest body always fits. A container with little memory holds less: a quarter of that',
        ),
      connections_per_address: z
        .int()
        .min(0)
        .max(1_000_000)
        .default(4096)
        .describe(
          'connections that one address may have open to one instance; 0: no limit, as behind a load balancer that hides addresses',
        ),
    })
    .prefault({}),
  node_identity: z
    .strictObject({
      node: nodeName
        .optional()
        .describe(
          'node whose own ollama.com account admin keys may use: /api/me, /api/signout, /api/user/keys, web search and fetch; without it they are refused',
        ),
    })
    .prefault({}),
  headers: z
    .strictObject({
      node: z.boolean().default(true).describe('send x-llamero-node'),
      instance: z.boolean().default(true).describe('send x-llamero-instance'),
    })
    .prefault({}),
  cors: z
    .strictObject({
      origins: z
        .array(z.string().min(1).max(200))
        .max(100)
        .default(ollamaOrigins)
        .describe('globs of the origins whose web pages may read answers, as OLLAMA_ORIGINS'),
    })
    .prefault({}),
  auth: z
    .strictObject({
      anonymous: z
        .enum(['loopback', 'none'])
        .default('loopback')
        .describe(
          'callers without a key: loopback: served where the listener is bound to loopback, with reads of the admin API; none: refused. Requests that a proxy passed on (Forwarded, X-Forwarded-*, X-Real-IP, Via) always need a key',
        ),
      hosts: z
        .array(hostGlob)
        .max(100)
        .default([])
        .describe(
          "globs of host names that callers without a key may ask for, besides those Ollama allows: localhost, this machine's name and addresses, private addresses, *.localhost, *.local, *.internal",
        ),
      addresses: z
        .array(
          z.strictObject({
            cidr: z.array(cidr).min(1).max(100).describe('ranges of addresses, such as "127.0.0.1/32"'),
            tenant: z.string().min(1).max(100).default('default').describe('tenant of its callers'),
            scopes: z.array(z.enum(scopes)).min(1).default(['inference']).describe('what they may do'),
          }),
        )
        .max(100)
        .default([])
        .describe(
          'callers that need no key, by the address of their connection, never by a header, and never through a proxy that shows itself; the first that matches counts',
        ),
    })
    .prefault({}),
  management: z
    .strictObject({
      registries: z
        .array(z.string().min(1).max(350).toLowerCase())
        .max(100)
        .default(['registry.ollama.ai'])
        .describe(
          'hosts that models may be pulled from and pushed to; a name without a host means registry.ollama.ai',
        ),
      insecure: z
        .boolean()
        .default(false)
        .describe('let callers ask for "insecure": plain HTTP and unchecked certificates of registries'),
      push: z
        .boolean()
        .default(false)
        .describe("let models be pushed, which is done with one node's own ollama.com account"),
      copies: copies.default(1).describe('nodes that get a model no node has yet; "all": each that may'),
      nodes: labels.default({}).describe('labels a node needs to get models it does not have'),
    })
    .prefault({}),
  callers: callersSchema.prefault({}),
  models: z
    .array(
      modelOptionsSchema.extend({
        match: modelGlob.describe('models it is for: a name or a glob such as "qwen3*"'),
      }),
    )
    .max(1000)
    .default([])
    .describe('options of requests to models; the first entry whose match covers the model applies'),
})
export type Config = z.output<typeof configSchema>

export const defaultConfig: Config = configSchema.parse({})

/** `R/routes/<name>`: what happens to requests that match. The first match in the order of names applies. */
export const routeSchema = z.strictObject({
  match: z
    .strictObject({
      model: modelGlob
        .default('*')
        .describe(
          'model asked for: a name, which without a tag means its tag "latest" as for Ollama, or a glob such as "llama3*" over names with their tags',
        ),
      tenant: z.string().optional().describe('tenant of the key; all without it'),
    })
    .prefault({}),
  model: z.string().min(1).max(400).optional().describe('the model that answers instead'),
  fallback: z
    .array(z.string().min(1).max(400))
    .max(10)
    .default([])
    .describe('models to use, in order, when no node can serve the first'),
  nodes: labels.default({}).describe('labels a node must have'),
  options: modelOptionsSchema.optional().describe('options of these requests, before those of "models"'),
  class: className
    .exactOptional()
    .describe('priority class of these requests, also when their key names another class'),
})
export type RouteSpec = z.output<typeof routeSchema>
