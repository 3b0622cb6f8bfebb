import assert from 'node:assert/strict'
import { PassThrough, Writable } from 'node:stream'
import { test } from 'node:test'
import type { CommandFlags, Setting, SimulateOptions } from '../../../lib/cli/cli-context.ts'
import { type CliContext, runCli } from '../../../lib/cli/program.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

const settings: readonly Setting[] = [
  aSetting({ name: 'listen', value: '127.0.0.1:11435', help: 'data listener' }),
  aSetting({
    name: 'log_level',
    flag: '--log-level',
    env: 'LLAMERO_LOG_LEVEL',
    value: 'debug',
    source: 'env',
  }),
  aSetting({ name: 'admin_token', value: 's3cret', secret: true }),
]

function aSetting(given: Partial<Setting> & { name: string }): Setting {
  return {
    flag: `--${given.name.replace('_', '-')}`,
    env: `LLAMERO_${given.name.toUpperCase()}`,
    value: '',
    source: 'default',
    help: given.name,
    secret: false,
    ...given,
  }
}

/** Runs one command line that needs no server; `ran` is what long-running commands were started with. */
async function llamero(line: string, given: Partial<CliContext> = {}) {
  const said = { out: '', err: '' }
  const into = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        said[name] += chunk
        done()
      },
    })
  const ran: (CommandFlags | SimulateOptions)[] = []
  const keep = async (options: CommandFlags | SimulateOptions) => ran.push(options) * 0 + 1
  const code = await runCli(line.split(' ').filter(Boolean), {
    adminUrl: 'http://127.0.0.1:1',
    adminToken: () => assert.fail('the token is not needed'),
    stdin: new PassThrough(),
    stdout: into('out'),
    stderr: into('err'),
    colour: false,
    version: '1.2.3',
    clock: new VirtualClock(),
    signal: new AbortController().signal,
    settings: () => settings,
    editor: 'false',
    run: {
      serve: keep,
      quickstart: keep,
      agent: keep,
      simulateNode: keep,
      rehearse: () => assert.fail('not this command'),
    },
    defaultFleet: async () => '',
    ...given,
  })
  return { code, ran, ...said }
}

const wrongLines: readonly [line: string, what: string, hint: string][] = [
  ['nod list', "unknown command 'nod'", 'did you mean node?'],
  ['node lst', "unknown command 'lst'", 'did you mean one of list, ls?'],
  ['frobnicate', "unknown command 'frobnicate'", 'llamero --help'],
  ['serve --lisen x', "unknown option '--lisen'", 'did you mean --listen?'],
  ['serve --lisen=x', "unknown option '--lisen'", 'did you mean --listen?'],
  ['serve --frobnicate=x', "unknown option '--frobnicate'", 'llamero serve --help'],
  ['node add gpu-a', "missing required argument 'url'", 'llamero node add --help'],
  ['model list -o xml', 'Allowed choices are table, wide, json, yaml.', 'llamero model list --help'],
  ['status --timeout 10', 'Write a duration such as 10s or 1h30m.', 'llamero status --help'],
  ['node add a http://a:1 --weight heavy', 'Write a number from 0.', 'llamero node add --help'],
  ['simulate node a --port 65536', 'Write a number from 0 to 65535.', 'llamero simulate node --help'],
  ['key create ci --scope root', 'Allowed choices are inference, admin.', 'llamero key create --help'],
  ['key create ci --expires soon', 'neither a date nor a duration', 'write 2027-01-31 or 720h'],
  ['key create ci --expires 2020-01-01', 'has passed already', ''],
  ['node show ../keys', 'cannot be the name of a node', ''],
  ['key revoke .. -y', 'cannot be the id of a key', ''],
  ['node set gpu-a weight', '"weight" has no "="', ''],
  ['node set gpu-a wieght=2', '"wieght" is not a field that can be set', 'did you mean "weight"?'],
  ['node set gpu-a label.zone=a', 'is not a field that can be set', 'fields: url, weight'],
  ['node set gpu-a headers.authorization=x', 'is not a field that can be set', 'fields: url, weight'],
  ['node add gpu-a http://a:1 --label zone', '--label takes KEY=VALUE', ''],
  ['--admin-url localhost:11400 status', 'is not the URL of an admin listener', 'write http://HOST:11400'],
  ['status --admin-url http://u:p@h', 'must not contain credentials', 'LLAMERO_ADMIN_TOKEN'],
  ['route set chat modle=a', '"modle" is not a field that can be set', 'did you mean "model"?'],
  ['route set chat zone=a', '"zone" is not a field that can be set', 'nodes.KEY'],
  ['route set ../keys model=a', 'cannot be the name of a route', ''],
  ['route remove chat', 'this command needs a confirmation, and there is no terminal to ask on', 'add --yes'],
  ['config set queue', '"queue" has no "="', 'write PATH=VALUE'],
  ['config apply', "required option '-f, --file <file>' not specified", 'llamero config apply --help'],
  ['config apply -f x --route ..', 'cannot be the name of a route', ''],
  ['config accpet', "unknown command 'accpet'", 'did you mean accept?'],
  ['config frobnicate', "unknown command 'frobnicate'", 'llamero config has: get, set, edit, validate'],
  ['key show', "unknown command 'show'", 'did you mean "llamero key list"?'],
  ['route get chat', "unknown command 'get'", 'did you mean "llamero route list"?'],
  ['node describe a', "unknown command 'describe'", 'did you mean "llamero node show"?'],
  ['key delete ci', "unknown command 'delete'", 'did you mean "llamero key revoke"?'],
  ['instance stepdown', "unknown command 'stepdown'", 'did you mean step-down?'],
  ['instance drain a --timeout 5', 'Write a duration such as 10s or 1h30m.', 'llamero instance drain --help'],
  ['pull m --copies 0', 'Write a whole number from 1, or "all".', 'llamero pull --help'],
  ['model load m --nodes a --copies 2', "'--nodes <names>' cannot be used with option '--copies", 'llamero'],
  ['model pull m --nodes a,,b', 'separated by commas', 'llamero model pull --help'],
  ['model rm m', 'this command needs a confirmation, and there is no terminal to ask on', 'add --yes'],
  ['model where a//b', '"a//b" cannot be the name of a model', ''],
  ['model jobs --watch', '--watch follows one job', 'llamero model jobs ID --watch'],
  ['model jobs job-1 --all', '--all is for the list of jobs', 'llamero model jobs job-1'],
  ['model cancel ../keys', 'cannot be the id of a job', ''],
  ['node remove gpu-a', 'this command needs a confirmation, and there is no terminal to ask on', 'add --yes'],
]
for (const [line, what, hint] of wrongLines) {
  test(`"llamero ${line}" is a usage error that says what to type instead`, async () => {
    const { code, out, err } = await llamero(line)
    assert.equal(code, 2)
    assert.equal(out, '')
    assert.ok(err.startsWith('error: '), err)
    assert.ok(err.includes(what), err)
    assert.ok(err.includes(hint), err)
    assert.ok(err.split('\n').length <= 4, err)
  })
}

const badUrls: readonly [url: string, fault: string][] = [
  ['gpu-a:11434', 'is not a URL; write http://HOST:11434'],
  ['ftp://gpu-a', 'scheme "ftp" is not http or https'],
  ['http://gpu-a:11434/api', 'must end before "/api"'],
  ['http://anna:pa55@gpu-a', 'must not contain credentials'],
  ['http://gpu-a:0', 'port 0'],
]
for (const [url, fault] of badUrls) {
  test(`the node URL ${url} is refused before any request, with its fault named`, async () => {
    for (const line of [`node add gpu-a ${url}`, `node set gpu-a url=${url}`]) {
      const { code, err } = await llamero(line)
      assert.equal(code, 2)
      assert.ok(err.includes(fault), err)
      assert.ok(!err.includes('pa55'), 'a password must not be repeated')
    }
  })
}

test('the value of an unknown flag is not repeated: it may be a secret', async () => {
  const { code, err } = await llamero('serve --admin-token=hunter2')
  assert.equal(code, 2)
  assert.ok(!err.includes('hunter2'), err)
})

test('a secret setting has no flag, so that it never stands in argv', async () => {
  assert.equal((await llamero('serve --admin-token x')).code, 2)
  const { out } = await llamero('serve --help')
  assert.ok(!out.includes('--admin-token'), out)
})

test('serve takes a flag per setting and ends with the exit code of the instance', async () => {
  const { code, ran } = await llamero('serve --listen 0.0.0.0:11434 --log-level=info --config f.yaml')
  assert.equal(code, 1)
  assert.deepEqual(ran, [{ listen: '0.0.0.0:11434', 'log-level': 'info', config: 'f.yaml' }])
  assert.deepEqual((await llamero('quickstart --listen a:1')).ran, [{ listen: 'a:1' }])
})

test('serve --help lists every setting with its variable', async () => {
  const { code, out } = await llamero('serve --help')
  assert.equal(code, 0)
  assert.match(out, /--log-level <value>\s+log_level \(env LLAMERO_LOG_LEVEL\)/)
})

test('simulate node passes on what was asked for, with defaults for the rest', async () => {
  const { ran } = await llamero('simulate node a --port 9000 --model m1 --model m2 --speed 0.5 --slots 4')
  assert.deepEqual(ran, [{ name: 'a', port: 9000, models: ['m1', 'm2'], speed: 0.5, slots: 4 }])
  const defaults = await llamero('simulate node b')
  assert.deepEqual(defaults.ran, [{ name: 'b', port: 0, models: [], speed: 1, slots: 1 }])
})

test('env shows each setting with its source and hides secrets, in every format', async () => {
  const { code, out } = await llamero('env')
  assert.equal(code, 0)
  assert.equal(
    out,
    [
      'SETTING      VALUE            SOURCE   ENV',
      'listen       127.0.0.1:11435  default  LLAMERO_LISTEN',
      'log_level    debug            env      LLAMERO_LOG_LEVEL',
      'admin_token  ***              default  LLAMERO_ADMIN_TOKEN',
      '',
    ].join('\n'),
  )
  for (const format of ['wide', 'json', 'yaml']) {
    assert.ok(!(await llamero(`env -o ${format}`)).out.includes('s3cret'), format)
  }
  const document = JSON.parse((await llamero('env -o json')).out)
  assert.equal(document.apiVersion, 'llamero/v1')
  assert.deepEqual(document.settings[1], settings[1])
})

test('the version needs no server and no token', async () => {
  for (const line of ['version', '--version', '-V']) {
    assert.deepEqual(await llamero(line), { code: 0, ran: [], out: 'llamero 1.2.3\n', err: '' })
  }
})

test('help goes to stdout when asked for, to stderr as a usage error when a command is missing', async () => {
  for (const line of ['--help', 'help', 'node --help', 'node add --help']) {
    const { code, out, err } = await llamero(line)
    assert.equal(code, 0)
    assert.match(out, /^Usage: llamero/)
    assert.equal(err, '')
  }
  for (const line of ['', 'node']) {
    const { code, out, err } = await llamero(line)
    assert.equal(code, 2)
    assert.equal(out, '')
    assert.match(err, /^Usage: llamero/)
  }
})

test('an unexpected failure is one line and exit code 1, never a throw', async () => {
  const broken = () => assert.fail('the settings file is unreadable')
  const { code, err } = await llamero('env', { settings: broken })
  assert.equal(code, 1)
  assert.equal(err, 'error: the settings file is unreadable\n')
})
