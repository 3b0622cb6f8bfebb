import { z } from 'zod'
import { callersSchema, modelOptionsSchema } from './caller-options.ts'
import { classesSchema, className } from './classes.ts'
import { cidr, copies, duration, hostGlob, labels, modelGlob } from './documents/field-schemas.ts'
import { isStoreName, storeNameRule } from './documents/names.ts'
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

const nodeName = z.string().refine(isStoreName, storeNameRule)

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
          'requests that a node runs at once per model, for nodes without "slots" in their document; only a start, llamero then learns the number',
        ),
      policy: z
        .enum(policies)
        .default('earliest-finish')
        .describe(
          'how nodes are chosen. The others than earliest-finish are for comparison: they send requests on at once, without a queue',
        ),
      attempts: z
        .int()
        .min(1)
        .max(10)
        .default(3)
        .describe('attempts at nodes for one request before it fails'),
      keep_alive: keepAliveSchema
        .default('1h')
        .describe(
          'how long models that llamero loads stay in memory after their last request, on nodes without "keep_alive" in their document. "own": as the OLLAMA_KEEP_ALIVE of each node says. Where Ollama makes room by itself, it unloads the model with the shortest time first',
        ),
      unknown_paths: nodeName
        .optional()
        .describe(
          'what happens to paths of /api and /v1 that llamero does not know. Without it: 404. "model": a POST with a JSON body that names a model goes to a node that has the model, as other requests do. The name of a node: that node gets them all',
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
          'requests that may wait for a slot on one instance; when it is full, the last request of the least urgent class is refused',
        ),
      max_wait: duration('60s').describe(
        'longest wait for a slot, for classes without a max_wait of their own',
      ),
      shares: z
        .record(z.string().min(1).max(100), z.number().min(0.01).max(100))
        .default({})
        .describe(
          'weight of a tenant, by name, when requests of several tenants wait; 1 for tenants that are not listed',
        ),
    })
    .prefault({}),
  classes: classesSchema
    .default([{ name: 'interactive' }, { name: 'default' }, { name: 'batch', max_wait: 600_000 }])
    .describe(
      'priority classes, the most urgent first. Without it: interactive, default, and batch with a max_wait of 10m. After each 30 s of waiting a request counts as one class more urgent',
    ),
  timeouts: z
    .strictObject({
      connect: duration('2s', { max: 60_000 }).describe('longest time for a connection to a node'),
      first_token: duration('300s').describe(
        'longest time to the first byte of a streamed answer; it includes a cold load',
      ),
      whole_answer: duration('15m').describe('longest time for an answer that is not streamed'),
      between_tokens: duration('60s').describe('longest silence of a node within an answer'),
      request: duration('1h').describe('longest time of a whole request, with its wait and its retries'),
      idle_write: duration('60s').describe(
        'how long a caller may leave an answer unread before the connection is closed',
      ),
      idle_upload: duration('60s').describe(
        'longest pause within a request body that is passed on while it comes',
      ),
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
        .describe(
          'probes in a row until the health of a node improves: answered probes make it up, probes that time out make a down node slow',
        ),
      fall: z
        .int()
        .min(1)
        .max(100)
        .default(3)
        .describe(
          'probes in a row until the health of a node gets worse: probes that time out make it slow, other failures make it down',
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
        .describe(
          'the breaker opens after at least this many requests within 30 s, if more than half of them failed',
        ),
      reset: duration('5s', { min: 100, max: 600_000 }).describe(
        'first pause until one request tries the node again, and first pause of a node that answers that it is busy; it doubles each time',
      ),
      max_reset: duration('20s', { min: 100, max: 600_000 }).describe('longest of these pauses'),
      slow_start: duration('5s', { min: 0, max: 600_000 }).describe(
        'a node that recovers begins with one slot per model. After each such time it gets one slot more, or a sixth of its slots if that is more. 0s: all slots at once',
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
          'bytes of all request bodies that one instance holds at once; at least one body of the largest size. In a container it is at most a quarter of the memory',
        ),
      connections_per_address: z
        .int()
        .min(0)
        .max(1_000_000)
        .default(4096)
        .describe(
          'open connections from one address to one instance; 0: no limit, for a load balancer that hides the addresses',
        ),
    })
    .prefault({}),
  node_identity: z
    .strictObject({
      node: nodeName
        .optional()
        .describe(
          'node with the ollama.com account that keys of scope admin may use: /api/me, /api/signout, /api/user/keys, web search and fetch; without it these paths are refused',
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
        .describe('globs of the origins of web pages that may read answers, as in OLLAMA_ORIGINS'),
    })
    .prefault({}),
  auth: z
    .strictObject({
      anonymous: z
        .enum(['loopback', 'none'])
        .default('loopback')
        .describe(
          'callers without a key. "loopback": served, and allowed to read the admin API, where the listener is bound to loopback. "none": refused. Requests that a proxy passed on (Forwarded, X-Forwarded-*, X-Real-IP, Via) always need a key',
        ),
      hosts: z
        .array(hostGlob)
        .max(100)
        .default([])
        .describe(
          "globs of host names that callers without a key may use in the header Host, besides those that Ollama allows: localhost, this machine's name and addresses, private addresses, *.localhost, *.local, *.internal",
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
          'callers that need no key, by the address of their connection. Headers do not count, and requests that a proxy passed on need a key. The first entry that matches applies',
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
          'registries that models may be pulled from and pushed to; a model name without a host means registry.ollama.ai',
        ),
      insecure: z
        .boolean()
        .default(false)
        .describe(
          'whether callers may ask for "insecure": plain HTTP to registries, and certificates that are not checked',
        ),
      push: z
        .boolean()
        .default(false)
        .describe('whether models may be pushed; a push uses the ollama.com account of one node'),
      copies: copies
        .default(1)
        .describe(
          'nodes that get a pulled model that no node has yet; "all": each node that management.nodes allows',
        ),
      nodes: labels.default({}).describe('labels that a node needs to get models that it does not have'),
    })
    .prefault({}),
  callers: callersSchema.prefault({}),
  models: z
    .array(
      modelOptionsSchema.extend({
        match: modelGlob.describe('models that the entry is for: a name or a glob such as "qwen3*"'),
      }),
    )
    .max(1000)
    .default([])
    .describe('options of requests to models; the first entry that matches the model applies'),
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
          'model that the request names: a name (without a tag it means "latest", as for Ollama), or a glob such as "llama3*" over names with tags',
        ),
      tenant: z.string().optional().describe('tenant of the key; without it: all tenants'),
    })
    .prefault({}),
  model: z.string().min(1).max(400).optional().describe('the model that answers instead'),
  fallback: z
    .array(z.string().min(1).max(400))
    .max(10)
    .default([])
    .describe('models to use, in order, when no node can serve the first'),
  nodes: labels.default({}).describe('labels that a node must have'),
  options: modelOptionsSchema
    .optional()
    .describe('options of these requests; they come before those of "models" in the config'),
  class: className
    .exactOptional()
    .describe('priority class of these requests, also when their key names another class'),
})
export type RouteSpec = z.output<typeof routeSchema>
