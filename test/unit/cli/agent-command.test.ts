import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { runCli } from '../../../lib/cli/program.ts'
import { settingLines } from '../../../lib/settings/setting-lines.ts'
import { VirtualClock } from '../../../lib/shared/virtual-clock.ts'

/** Runs `llamero agent …`; `ran` is what the agent was started with. */
async function agent(line: string) {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const ran: unknown[] = []
  const none = () => assert.fail('another command was run')
  const settings = await settingLines()
  const code = await runCli(['agent', ...line.split(' ').filter(Boolean)], {
    adminUrl: '',
    adminToken: none,
    stdin: new PassThrough(),
    stdout,
    stderr,
    colour: false,
    version: '0',
    clock: new VirtualClock(),
    signal: new AbortController().signal,
    settings: () => settings,
    editor: 'false',
    run: {
      serve: none,
      quickstart: none,
      simulateNode: none,
      agent: async (flags, options) => {
        ran.push(flags, options)
        return 0
      },
      rehearse: none,
    },
    defaultFleet: async () => '',
  })
  stdout.end()
  stderr.end()
  return { code, ran, out: await text(stdout), err: await text(stderr) }
}

test('an agent is started with its settings as flags and the node it registers', async () => {
  const { code, ran, err } = await agent(
    '--announce http://gpu-1:11434/ --name gpu-1 --label zone=a --label rack=7 --slots 4 --weight 2 --keep-alive=-1 --etcd http://etcd:2379 --log-level debug',
  )
  assert.equal(code, 0, err)
  const [flags, options] = ran
  const { name, etcd, 'log-level': level } = flags as Record<string, string>
  assert.deepEqual([name, etcd, level], ['gpu-1', 'http://etcd:2379', 'debug'])
  assert.deepEqual(options, {
    ollama: 'http://127.0.0.1:11434',
    announce: 'http://gpu-1:11434',
    labels: { zone: 'a', rack: '7' },
    slots: 4,
    weight: 2,
    keepAlive: -1,
  })
})

test('an Ollama that others can reach is announced as it is', async () => {
  const { ran } = await agent('--ollama http://10.0.0.1:11434')
  const { ollama, announce } = ran[1] as { ollama: string; announce: string }
  assert.deepEqual([ollama, announce], ['http://10.0.0.1:11434', 'http://10.0.0.1:11434'])
})

for (const own of [
  '',
  'http://localhost:11434',
  'http://[::1]:11434',
  'http://0.0.0.0:11434',
  'http://[::]:1',
]) {
  test(`the address ${own || 'of the local Ollama'} is not announced without being asked: it means another machine elsewhere`, async () => {
    const { code, err, ran } = await agent(own && `--ollama ${own}`)
    assert.equal(code, 2)
    assert.match(
      err,
      /^error: .* means another machine on every instance.*\n.*--announce http:\/\/HOST:11434\n$/,
    )
    assert.deepEqual(ran, [])
  })
}

test('an invalid node is refused before the agent starts', async () => {
  for (const line of [
    '--announce gpu-1:11434',
    '--ollama ftp://x',
    '--announce http://a:1 --label zone',
    '--slots 0',
  ])
    assert.equal((await agent(line)).code, 2, line)
})

test('an agent has flags for the settings it reads, and for no others', async () => {
  const { out } = await agent('--help')
  for (const flag of ['--etcd', '--cluster', '--etcd-ca', '--log-level', '--config', '--name'])
    assert.ok(out.includes(`${flag} `), flag)
  for (const flag of ['--listen', '--admin ', '--state']) assert.ok(!out.includes(flag), flag)
})
