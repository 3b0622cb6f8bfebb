import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PassThrough, Writable } from 'node:stream'
import { json, text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { parse } from 'yaml'
import type { NodeAnswer, StatusAnswer } from '../../lib/cli/answers.ts'
import { type CliContext, runCli } from '../../lib/cli/program.ts'
import { VirtualClock } from '../../lib/shared/virtual-clock.ts'

const token = 'canary-admin-token'

interface Received {
  readonly method: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}
type Answer = { status?: number; body?: unknown } | ((response: ServerResponse, received: Received) => void)

/** A stand-in for the admin API: answers by `METHOD /path`, 404 elsewhere, and keeps what it was sent. */
async function fakeAdmin(t: TestContext, answers: Record<string, Answer>) {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const { method = '', url = '', headers } = request
    const body = headers['content-type'] ? await json(request) : null
    const got = { method, path: url.replace('/admin/v1', ''), headers, body }
    received.push(got)
    const answer = answers[`${method} ${got.path}`] ?? refusal(404, 'not_found', `no ${url}`)
    if (typeof answer === 'function') return answer(response, got)
    response.writeHead(answer.status ?? 200, { 'content-type': 'application/json' })
    response.end(answer.body === undefined ? '' : JSON.stringify(answer.body))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received }
}

function refusal(status: number, code: string, message: string, hint?: string) {
  return { status, body: { error: { code, message, ...(hint && { hint }) } } }
}

class Sink extends Writable {
  text = ''
  isTTY = false
  columns = 200

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk
    done()
  }
}

interface Given extends Partial<CliContext> {
  readonly url?: string
  /** What is typed; being given one makes stdin and stderr a terminal. */
  readonly typed?: string
  /** stdout and stderr are a terminal. */
  readonly tty?: boolean
}

/** Starts one command line; `stdout` and `stderr` can be watched while it runs. */
function start(line: string, { url = 'http://127.0.0.1:1', typed, tty = false, ...given }: Given = {}) {
  const stdin = Object.assign(new PassThrough(), { isTTY: typed !== undefined })
  stdin.end(typed ?? '')
  const stdout = Object.assign(new Sink(), { isTTY: tty })
  const stderr = Object.assign(new Sink(), { isTTY: tty || typed !== undefined })
  const none = () => assert.fail('not this command')
  const done = runCli(line.split(' '), {
    adminUrl: url,
    adminToken: () => token,
    stdin,
    stdout,
    stderr,
    colour: false,
    version: '1.2.3',
    clock: new VirtualClock(new Date('2026-01-13T00:00:00Z')),
    signal: new AbortController().signal,
    settings: () => [],
    run: { serve: none, quickstart: none, simulateNode: none },
    ...given,
  })
  return { done, stdout, stderr }
}

async function llamero(line: string, given?: Given) {
  const { done, stdout, stderr } = start(line, given)
  const code = await done
  assert.ok(!`${stdout.text}${stderr.text}`.includes(token), 'the admin token must never be printed')
  return { code, out: stdout.text, err: stderr.text }
}

/** Lets virtual time pass whenever a command waits for the next look, until it ends. */
async function drive(clock: VirtualClock, done: Promise<number>): Promise<number> {
  let ended = false
  const end = () => {
    ended = true
  }
  done.then(end, end)
  while (!ended) {
    const next = clock.nextTimerAt()
    // Further away than a look is the deadline of a request under way: its answer comes in real time.
    if (next !== null && next - clock.now() <= 1000) await clock.advance(next - clock.now())
    else await new Promise((resolve) => setImmediate(resolve))
  }
  return done
}

function aNode(given: Partial<NodeAnswer> & { name: string }): NodeAnswer {
  return {
    url: `http://${given.name}:11434`,
    state: 'active',
    health: 'up',
    reason: '',
    since: '2026-01-01T00:00:00Z',
    weight: 1,
    slots: 4,
    labels: {},
    version: '0.15.0',
    running: 0,
    running_by_instance: {},
    breaker: 'closed',
    loaded: [],
    models: [],
    vram_bytes: 0,
    ...given,
  }
}

const nodes = {
  apiVersion: 'llamero/v1',
  nodes: [
    aNode({
      name: 'gpu-a',
      running: 3,
      loaded: ['qwen3:32b', 'nomic-embed-text:latest'],
      labels: { zone: 'a' },
    }),
    aNode({ name: 'gpu-b', state: 'cordoned', breaker: 'half-open', weight: 0.5 }),
    aNode({ name: 'gpu-c', health: 'down', reason: 'connect ECONNREFUSED', since: null, version: '' }),
  ],
}

test('node list piped is an aligned table with its header, uncut and without colour', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: nodes } })
  const { code, out, err } = await llamero('node list', { url })
  assert.equal(code, 0)
  assert.equal(err, '')
  assert.equal(
    out,
    [
      'NAME   STATE     HEALTH                  RUNNING  WEIGHT  LOADED                              VERSION  SINCE',
      'gpu-a  active    up                            3       1  qwen3:32b, nomic-embed-text:latest  0.15.0   12d',
      'gpu-b  cordoned  up (breaker half-open)        0     0.5  -                                   0.15.0   12d',
      'gpu-c  active    down                          0       1  -                                   -        -',
      '',
    ].join('\n'),
  )
  const wide = await llamero('node ls -o wide', { url })
  assert.match(wide.out, /http:\/\/gpu-a:11434 +zone=a/)
  assert.match(wide.out, /connect ECONNREFUSED/)
})

test('colour needs the context to allow it, and --no-color takes it away', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: nodes } })
  assert.ok((await llamero('node list', { url, colour: true })).out.includes('\u001b[31mdown'))
  assert.ok(!(await llamero('node list --no-color', { url, colour: true })).out.includes('\u001b'))
})

test('-o json prints the API document itself, and -o yaml the same document', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /nodes': { body: nodes },
    'GET /nodes/gpu-a': { body: nodes.nodes[0] },
  })
  assert.deepEqual(JSON.parse((await llamero('node list -o json', { url })).out), nodes)
  assert.deepEqual(parse((await llamero('node list -o yaml', { url })).out), nodes)
  assert.deepEqual(JSON.parse((await llamero('node show gpu-a -o json', { url })).out), nodes.nodes[0])
})

test('a fleet without nodes says which command adds the first', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: { nodes: [] } } })
  const { code, err } = await llamero('node list', { url })
  assert.equal(code, 0)
  assert.equal(err, 'no nodes yet\n  hint: llamero node add NAME http://HOST:11434\n')
})

test('node show says all there is about one node', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /nodes/gpu-a': {
      body: aNode({ name: 'gpu-a', running: 3, running_by_instance: { a: 2, b: 1 }, vram_bytes: 24e9 }),
    },
  })
  const { out } = await llamero('node show gpu-a', { url })
  assert.match(out, /^name {5}gpu-a$/m)
  assert.match(out, /^running {2}3 \(a=2,b=1\)$/m)
  assert.match(out, /^since {4}12d \(2026-01-01T00:00:00Z\)$/m)
  assert.match(out, /^vram {5}24 GB$/m)
  assert.match(out, /^labels {3}-$/m)
})

test('node add creates, never overwrites, and names the next command', async (t) => {
  const spec = {
    url: 'http://gpu-d:11434',
    weight: 2,
    slots: 4,
    state: 'cordoned',
    labels: { zone: 'a', gpu: 'h100' },
  }
  const { url, received } = await fakeAdmin(t, { 'PUT /nodes/gpu-d': { status: 201, body: spec } })
  const line =
    'node add gpu-d http://gpu-d:11434/ --weight 2 --slots 4 --state cordoned --label zone=a --label gpu=h100'
  const { code, out, err } = await llamero(line, { url })
  assert.equal(code, 0)
  assert.equal(out, '')
  assert.equal(err, 'gpu-d: added\n  hint: llamero node show gpu-d\n')
  assert.deepEqual(received[0]?.body, spec)
  assert.equal(received[0]?.headers['if-none-match'], '*')
  assert.equal(received[0]?.headers.authorization, `Bearer ${token}`)
  assert.deepEqual(JSON.parse((await llamero(`${line} -o json`, { url })).out), spec)
})

test('node add sends only the fields that were given', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'PUT /nodes/gpu-d': { status: 201, body: {} } })
  await llamero('node add gpu-d https://gpu-d', { url })
  assert.deepEqual(received[0]?.body, { url: 'https://gpu-d' })
})

test('node add of a name that exists is a conflict, or nothing at all with --if-not-exists', async (t) => {
  const { url, received } = await fakeAdmin(t, {
    'PUT /nodes/gpu-a': refusal(409, 'conflict', 'node "gpu-a" exists already', 'llamero node set gpu-a'),
    'GET /nodes/gpu-a': { body: nodes.nodes[0] },
  })
  const taken = await llamero('node add gpu-a http://gpu-a:11434', { url })
  assert.equal(taken.code, 5)
  assert.equal(taken.err, 'error: node "gpu-a" exists already\n  hint: llamero node set gpu-a\n')

  const same = await llamero('node add gpu-a http://gpu-a:11434 --if-not-exists', { url })
  assert.equal(same.code, 0)
  assert.equal(same.err, 'gpu-a: exists already, left unchanged\n')

  const moved = await llamero('node add gpu-a http://elsewhere:11434 --if-not-exists', { url })
  assert.equal(moved.code, 0)
  assert.match(moved.err, /exists already with http:\/\/gpu-a:11434, left unchanged/)
  assert.match(moved.err, /hint: llamero node set gpu-a url=http:\/\/elsewhere:11434/)
  assert.ok(received.every(({ headers, method }) => method === 'GET' || headers['if-none-match'] === '*'))
})

test('a URL that another node has is a conflict, with --if-not-exists too', async (t) => {
  const { url } = await fakeAdmin(t, {
    'PUT /nodes/gpu-x': refusal(409, 'conflict', 'http://gpu-a:11434 is node "gpu-a" already'),
  })
  for (const flag of ['', ' --if-not-exists']) {
    const { code, err } = await llamero(`node add gpu-x http://gpu-a:11434${flag}`, { url })
    assert.equal(code, 5)
    assert.equal(err, 'error: http://gpu-a:11434 is node "gpu-a" already\n')
  }
})

test('node set, cordon and uncordon change just what was asked for', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'PATCH /nodes/gpu-a': { body: {} } })
  const set = await llamero('node set gpu-a weight=2 slots= url=http://h:1/ labels.zone=b labels.old=', {
    url,
  })
  const cordon = await llamero('node cordon gpu-a', { url })
  const uncordon = await llamero('node uncordon gpu-a', { url })
  assert.deepEqual([set.code, cordon.code, uncordon.code], [0, 0, 0])
  assert.deepEqual(
    received.map(({ body }) => body),
    [
      { weight: 2, slots: null, url: 'http://h:1', labels: { zone: 'b', old: null } },
      { state: 'cordoned' },
      { state: 'active' },
    ],
  )
  assert.equal(
    set.err + cordon.err + uncordon.err,
    'gpu-a: changed\ngpu-a: cordoned\ngpu-a: takes requests again\n',
  )
})

test('a name that is not registered is exit code 3, with the name that may have been meant', async (t) => {
  const missing = refusal(404, 'not_found', 'no node named "gpu-q"')
  const { url } = await fakeAdmin(t, {
    'GET /nodes': { body: nodes },
    'GET /nodes/gpu-q': missing,
    'PATCH /nodes/gpu-q': missing,
    'DELETE /nodes/gpu-q': missing,
    'GET /keys': { body: { keys: [{ id: 'open-webui' }] } },
    'DELETE /keys/openwebui': refusal(404, 'not_found', 'no key named "openwebui"'),
  })
  for (const verb of ['show gpu-q', 'cordon gpu-q', 'drain gpu-q', 'remove gpu-q -y']) {
    const { code, err } = await llamero(`node ${verb}`, { url })
    assert.equal(code, 3)
    assert.equal(err, 'error: no node named "gpu-q"\n  hint: did you mean "gpu-a"?\n')
  }
  const { code, err } = await llamero('key revoke openwebui -y', { url })
  assert.equal(code, 3)
  assert.match(err, /hint: did you mean "open-webui"\?/)
})

const refusals: readonly [status: number, exit: number][] = [
  [400, 6],
  [401, 4],
  [403, 4],
  [404, 3],
  [409, 5],
  [422, 6],
  [500, 1],
  [503, 7],
]
for (const [status, exit] of refusals) {
  test(`an answer with status ${status} ends as exit code ${exit}, in the words of the API`, async (t) => {
    const { url } = await fakeAdmin(t, { 'GET /models': refusal(status, 'x', 'because', 'try this') })
    const { code, out, err } = await llamero('model list', { url })
    assert.equal(code, exit)
    assert.equal(out, '')
    assert.equal(err, 'error: because\n  hint: try this\n')
  })
}

test('a refused token says where tokens come from, and without one no header is sent', async (t) => {
  const { url, received } = await fakeAdmin(t, { 'GET /status': refusal(401, 'unauthorized', 'no token') })
  const { err } = await llamero('status', { url, adminToken: () => null })
  assert.match(err, /hint: set LLAMERO_ADMIN_TOKEN/)
  assert.equal(received[0]?.headers.authorization, undefined)
})

test('no admin listener: the URL that was tried, what to start, exit code 7', async () => {
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const url = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`
  closed.close()
  await once(closed, 'close')
  const { code, err } = await llamero(`status --admin-url ${url}/`)
  assert.equal(code, 7)
  assert.equal(err, `error: cannot reach ${url} (ECONNREFUSED)\n  hint: is it running? llamero serve\n`)
})

test('an admin listener that never answers is given up after --timeout', { timeout: 10_000 }, async (t) => {
  const asked = Promise.withResolvers<void>()
  const { url } = await fakeAdmin(t, { 'GET /status': () => asked.resolve() })
  const clock = new VirtualClock()
  const { done, stderr } = start('status --timeout 90s', { url, clock })
  await asked.promise
  await clock.advance(89_999)
  assert.equal(stderr.text, '')
  await clock.advance(1)
  assert.equal(await done, 7)
  assert.match(stderr.text, /no answer within 90s/)
})

test('something else on the admin port is called what it is', async (t) => {
  const { url } = await fakeAdmin(t, {
    'GET /status': (response) => response.end('<html>hello</html>'),
    'GET /nodes': (response) => response.writeHead(302, { location: '/elsewhere' }).end(),
  })
  for (const [line, status] of [
    ['status', 200],
    ['node list', 302],
  ]) {
    const { code, err } = await llamero(String(line), { url })
    assert.equal(code, 1)
    assert.match(err, new RegExp(`answered HTTP ${status} without a llamero document`))
    assert.match(err, /--admin-url/)
  }
})

/** A node that is cordoned by the first PATCH and whose requests end one after the other. */
function draining(looks: readonly Record<string, number>[]): Record<string, Answer> {
  let at = 0
  return {
    'PATCH /nodes/gpu-b': { body: {} },
    'GET /nodes/gpu-b': (response) => {
      const running_by_instance = looks[Math.min(at++, looks.length - 1)] ?? {}
      const running = Object.values(running_by_instance).reduce((sum, count) => sum + count, 0)
      response.end(JSON.stringify(aNode({ name: 'gpu-b', state: 'cordoned', running, running_by_instance })))
    },
  }
}

test('drain cordons, tells what it waits for, and ends when the node is idle', async (t) => {
  const { url, received } = await fakeAdmin(t, draining([{ a: 1, b: 1 }, { a: 1, b: 1 }, { b: 1 }, {}]))
  const clock = new VirtualClock()
  const { done, stdout, stderr } = start('node drain gpu-b', { url, clock })
  assert.equal(await drive(clock, done), 0)
  assert.deepEqual(received[0]?.body, { state: 'cordoned' })
  assert.equal(stdout.text, '')
  assert.equal(
    stderr.text,
    [
      'gpu-b: cordoned; waiting up to 5m for its requests to end',
      'gpu-b: 2 requests running on instances a, b',
      'gpu-b: 1 request running on instance b',
      'gpu-b: no requests running; waiting until every instance has seen the cordon',
      'gpu-b: drained in 6.0s',
      '  hint: llamero node uncordon gpu-b',
      '',
    ].join('\n'),
  )
})

test('drain on a terminal renews one line', async (t) => {
  const { url } = await fakeAdmin(t, draining([{ a: 2 }, { a: 1 }, {}]))
  const clock = new VirtualClock()
  const { done, stderr } = start('node drain gpu-b', { url, clock, tty: true })
  assert.equal(await drive(clock, done), 0)
  assert.ok(stderr.text.includes('\r\u001b[Kgpu-b: 2 requests running on instance a\r\u001b[Kgpu-b: 1 '))
  assert.ok(stderr.text.includes('\r\u001b[Kgpu-b: drained in 5.0s\n'), stderr.text)
})

test('drain gives up after --timeout with exit code 8 and leaves the node cordoned', async (t) => {
  const { url, received } = await fakeAdmin(t, draining([{ a: 1 }]))
  const clock = new VirtualClock()
  const { done, stderr } = start('node drain gpu-b --timeout 3s', { url, clock })
  assert.equal(await drive(clock, done), 8)
  assert.equal(clock.now(), 3000)
  assert.match(stderr.text, /error: gpu-b: 1 request running on instance a after 3\.0s; it stays cordoned/)
  assert.equal(received.filter(({ method }) => method === 'PATCH').length, 1)
})

test('drain --no-wait cordons and returns', async (t) => {
  const { url, received } = await fakeAdmin(t, draining([{ a: 1 }]))
  const { code, err } = await llamero('node drain gpu-b --no-wait', { url })
  assert.equal(code, 0)
  assert.equal(err, 'gpu-b: cordoned\n  hint: llamero node show gpu-b\n')
  assert.equal(received.length, 1)
})

test('a command that only waits for time keeps its process alive', async (t) => {
  const { url } = await fakeAdmin(t, draining([{ a: 1 }, {}]))
  const moduleUrl = (path: string) => JSON.stringify(new URL(`../../lib/${path}`, import.meta.url).href)
  const program = `
    import { runCli } from ${moduleUrl('cli/program.ts')}
    import { RealClock } from ${moduleUrl('shared/clock.ts')}
    const { stdin, stdout, stderr } = process
    process.exitCode = await runCli(['node', 'drain', 'gpu-b'], {
      adminUrl: '${url}', adminToken: () => null, stdin, stdout, stderr, colour: false, version: '1.2.3',
      clock: new RealClock(0.1), signal: new AbortController().signal, settings: () => [], run: {},
    })`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program])
  t.after(() => child.kill('SIGKILL'))
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')])
  assert.match(said, /gpu-b: drained in/)
  assert.equal(code, 0)
})

test('Ctrl-C ends a command with exit code 130; an interrupted drain says what it leaves behind', async (t) => {
  const { url } = await fakeAdmin(t, { ...draining([{ a: 1 }]), 'GET /status': () => {} })
  for (const line of ['node drain gpu-b', 'status']) {
    const stop = new AbortController()
    const { done, stderr } = start(line, { url, signal: stop.signal })
    while (line !== 'status' && !stderr.text.includes('running on'))
      await new Promise((resolve) => setImmediate(resolve))
    stop.abort()
    assert.equal(await done, 130)
    assert.equal(
      stderr.text.includes('gpu-b: stays cordoned\n  hint: llamero node uncordon gpu-b\n'),
      line !== 'status',
    )
  }
})

test('node remove asks on a terminal, and only yes is yes', async (t) => {
  const busy = aNode({ name: 'gpu-b', running: 2 })
  const { url, received } = await fakeAdmin(t, {
    'GET /nodes/gpu-b': { body: busy },
    'DELETE /nodes/gpu-b': { status: 204 },
  })
  const deleted = () => received.filter(({ method }) => method === 'DELETE').length
  for (const typed of ['n\n', '\n', '']) {
    const { code, err } = await llamero('node remove gpu-b', { url, typed })
    assert.equal(code, 1)
    assert.match(err, /^Remove node gpu-b \(http:\/\/gpu-b:11434\), which runs 2 requests\? \[y\/N\] /)
    assert.match(err, /nothing was changed/)
  }
  assert.equal(deleted(), 0)
  assert.equal((await llamero('node remove gpu-b', { url, typed: 'y\n' })).code, 0)
  assert.equal(deleted(), 1)
  const unasked = await llamero('node rm gpu-b -y', { url })
  assert.equal(unasked.err, 'gpu-b: removed\n')
  assert.equal(deleted(), 2)
})

test('model list and model ps look like "ollama list" and "ollama ps", with the nodes', async (t) => {
  const digest = `sha256:6a0746a1ec1a${'0'.repeat(52)}`
  const { url } = await fakeAdmin(t, {
    'GET /models': {
      body: {
        models: [
          {
            name: 'llama3.2:3b',
            size: 2_019_393_189,
            digest,
            modified_at: '2026-01-10T00:00:00Z',
            nodes: ['gpu-a', 'gpu-b'],
            loaded_on: ['gpu-b'],
            parameter_size: '3.2B',
            quantization: 'Q4_K_M',
          },
        ],
      },
    },
    'GET /models/loaded': {
      body: {
        loaded: [
          {
            name: 'llama3.2:3b',
            node: 'gpu-b',
            size: 4_000_000_000,
            size_vram: 4_000_000_000,
            context_length: 8192,
            expires_at: '2026-01-13T00:04:00Z',
            digest,
          },
        ],
      },
    },
  })
  const list = [
    'NAME         ID              SIZE  MODIFIED  NODES         LOADED ON',
    'llama3.2:3b  6a0746a1ec1a  2.0 GB  3d ago    gpu-a, gpu-b  gpu-b',
    '',
  ].join('\n')
  const ps = [
    'NAME         NODE   ID            SIZE  PROCESSOR  CONTEXT  UNTIL',
    'llama3.2:3b  gpu-b  6a0746a1ec1a  4 GB  100% GPU      8192  4m from now',
    '',
  ].join('\n')
  for (const line of ['model list', 'model ls', 'list', 'ls']) {
    assert.equal((await llamero(line, { url })).out, list)
  }
  for (const line of ['model ps', 'ps']) assert.equal((await llamero(line, { url })).out, ps)
  assert.match((await llamero('list -o wide', { url })).out, /3\.2B +Q4_K_M/)
})

test('a new key: its token alone on stdout, everything else on stderr', async (t) => {
  const record = { id: 'ci', token: 'llm_abc', tenant: 'build', scopes: ['inference'], models: ['llama3*'] }
  const { url, received } = await fakeAdmin(t, { 'POST /keys': { status: 201, body: record } })
  const line = 'key create ci --tenant build --scope inference --model llama3* --expires 24h'
  const { code, out, err } = await llamero(line, { url })
  assert.equal(code, 0)
  assert.equal(out, 'llm_abc\n')
  assert.equal(err, 'ci: created; keep the token, it cannot be shown again\n  hint: llamero key revoke ci\n')
  assert.deepEqual(received[0]?.body, {
    id: 'ci',
    tenant: 'build',
    scopes: ['inference'],
    models: ['llama3*'],
    expires: '2026-01-14T00:00:00.000Z',
  })
  assert.deepEqual(await llamero(`${line} -q`, { url }), { code: 0, out: 'llm_abc\n', err: '' })
  assert.deepEqual(JSON.parse((await llamero('key create ci -o json', { url })).out), record)
  assert.deepEqual(received.at(-1)?.body, { id: 'ci' })
  await llamero('key create ci --expires 2027-01-31', { url })
  assert.deepEqual(received.at(-1)?.body, { id: 'ci', expires: '2027-01-31T00:00:00.000Z' })
})

test('key list shows what each key may do, key revoke asks and ends one', async (t) => {
  const keys = [
    { id: 'ci', tenant: 'build', scopes: ['inference', 'admin'], models: ['*'], expires: null },
    {
      id: 'ui',
      tenant: 'default',
      scopes: ['inference'],
      models: ['llama3*', 'qwen3*'],
      expires: '2027-01-31T00:00:00Z',
    },
  ]
  const { url, received } = await fakeAdmin(t, {
    'GET /keys': { body: { apiVersion: 'llamero/v1', keys } },
    'DELETE /keys/ci': { status: 204 },
  })
  assert.equal(
    (await llamero('key list', { url })).out,
    [
      'ID  TENANT   SCOPES            MODELS           EXPIRES',
      'ci  build    inference, admin  *                never',
      'ui  default  inference         llama3*, qwen3*  2027-01-31T00:00:00Z',
      '',
    ].join('\n'),
  )
  const { code, err } = await llamero('key revoke ci', { url, typed: 'yes\n' })
  assert.equal(code, 0)
  assert.equal(err, 'Revoke key ci? Its clients are refused at once. [y/N] ci: revoked\n')
  assert.equal(received.at(-1)?.method, 'DELETE')
})

function aStatus(given: Partial<StatusAnswer>): StatusAnswer {
  return {
    cluster: 'prod',
    version: '0.1.0',
    instance: { id: 'proxy-a', role: 'standby', uptime_seconds: 1_036_800, draining: false },
    leader: { id: 'proxy-b', fence: '812' },
    store: { kind: 'etcd', ok: true, last_contact_seconds: 0.2 },
    config: { revision: '840', rejected: [] },
    nodes: { total: 5, up: 4, down: 1, cordoned: 1 },
    models: { on_disk: 11, loaded: 7 },
    instances: 3,
    requests: { running: 18, queued: 4 },
    ...given,
  }
}

test('status shows the cluster on one screen', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /status': { body: aStatus({}) } })
  const { code, out, err } = await llamero('status', { url })
  assert.equal(code, 0)
  assert.equal(err, '')
  assert.equal(
    out,
    [
      'cluster   prod, 3 instances, llamero 0.1.0',
      'instance  proxy-a, standby, up 12d',
      'leader    proxy-b, fence 812',
      'store     ok, etcd',
      'config    revision 840, 0 documents rejected',
      'nodes     5: 4 up, 1 down, 1 cordoned',
      'models    11 on disk, 7 loaded',
      'requests  18 running, 4 queued',
      '',
    ].join('\n'),
  )
})

test('status names what is wrong: store, leader, rejected documents with line and hint', async (t) => {
  const body = aStatus({
    leader: null,
    store: { kind: 'etcd', ok: false, last_contact_seconds: 75 },
    config: {
      revision: '840',
      rejected: [
        {
          key: '/llamero/prod/routes/chat',
          errors: [
            { path: 'fallbak', line: 4, message: 'is not a known field', hint: 'did you mean "fallback"?' },
          ],
        },
      ],
    },
    nodes: { total: 0, up: 0, down: 0, cordoned: 0 },
  })
  const { url } = await fakeAdmin(t, { 'GET /status': { body } })
  const { out, err } = await llamero('status', { url })
  assert.match(out, /^leader {4}unknown$/m)
  assert.match(
    out,
    /^store {5}unreachable, etcd, last contact 75s ago; requests go on with the last config$/m,
  )
  assert.match(out, /^config {4}revision 840, 1 document rejected$/m)
  assert.ok(
    out.endsWith(
      'rejected: /llamero/prod/routes/chat\n  line 4: fallbak: is not a known field (did you mean "fallback"?)\n',
    ),
    out,
  )
  assert.match(err, /hint: llamero node add NAME/)
})

test('a reader that leaves early does no harm', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /nodes': { body: nodes } })
  const gone = new Writable({ write: (_chunk, _encoding, done) => done(new Error('write EPIPE')) })
  assert.equal((await llamero('node list', { url, stdout: gone })).code, 0)
})
