import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ModelDetail } from '../../lib/api/models.ts'
import { fakeAdmin, llamero } from '../support/cli.ts'

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
            older_on: ['gpu-b'],
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
    'NAME         ID              SIZE  MODIFIED  NODES                 LOADED ON',
    'llama3.2:3b  6a0746a1ec1a  2.0 GB  3d ago    gpu-a, gpu-b (older)  gpu-b',
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

test('model list shows the model of an alias (333)', async (t) => {
  const model = {
    name: 'assistant:latest',
    alias_of: 'llama3.2:3b',
    size: 1,
    digest: 'sha256:6a0746a1ec1a',
    modified_at: '2026-01-10T00:00:00Z',
    nodes: ['gpu-a'],
    loaded_on: [],
    parameter_size: '',
    quantization: '',
  }
  const { url } = await fakeAdmin(t, { 'GET /models': { body: { models: [model] } } })
  assert.match((await llamero('model list', { url })).out, /^assistant:latest \(alias of llama3\.2:3b\) /m)
})

const newest = `sha256:6a0746a1ec1a${'0'.repeat(52)}`
const older = `sha256:e7b273f96360${'0'.repeat(52)}`
const memory = {
  size: 4_000_000_000,
  size_vram: 4_000_000_000,
  context_length: 8192,
  expires_at: '2026-01-13T00:04:00Z',
}
const detail: ModelDetail = {
  name: 'qwen3:8b',
  alias_of: null,
  size: 5_200_000_000,
  digest: newest,
  modified_at: '2026-01-10T00:00:00Z',
  nodes: ['gpu-a', 'gpu-b'],
  older_on: ['gpu-b'],
  loaded_on: ['gpu-b', 'gpu-c'],
  parameter_size: '8B',
  quantization: 'Q4_K_M',
  family: 'qwen3',
  capabilities: ['completion', 'tools'],
  copies: [
    {
      node: 'gpu-a',
      health: 'up',
      disk: { digest: newest, size: 5_200_000_000, modified_at: '2026-01-10T00:00:00Z', newest: true },
      memory: null,
    },
    {
      node: 'gpu-b',
      health: 'down',
      disk: { digest: older, size: 5_000_000_000, modified_at: '2026-01-01T00:00:00Z', newest: false },
      memory: { digest: older, ...memory },
    },
    { node: 'gpu-c', health: 'up', disk: null, memory: { digest: newest, ...memory } },
  ],
}

test('model where shows which copy each node has, on disk and in memory', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /models/qwen3%3A8b': { body: detail } })
  const { code, out, err } = await llamero('model where Qwen3:8B', { url })
  assert.deepEqual([code, err], [0, ''])
  assert.equal(
    out,
    [
      'NODE   HEALTH  COPY          ID              SIZE  MODIFIED  IN MEMORY  CONTEXT  UNTIL',
      'gpu-a  up      newest        6a0746a1ec1a  5.2 GB  3d ago            -        -  -',
      'gpu-b  down    older         e7b273f96360    5 GB  12d ago        4 GB     8192  4m from now',
      'gpu-c  up      none on disk  -                  -  -              4 GB     8192  4m from now',
      '',
    ].join('\n'),
  )
  assert.match((await llamero('model where qwen3:8b -o wide', { url })).out, /100% GPU/)
  assert.deepEqual(JSON.parse((await llamero('model where qwen3:8b -o json', { url })).out), detail)
})

test('model show prints the details of one model', async (t) => {
  const { url } = await fakeAdmin(t, { 'GET /models/qwen3%3A8b': { body: detail } })
  assert.equal(
    (await llamero('model show qwen3:8b', { url })).out,
    [
      'name          qwen3:8b',
      `digest        ${newest}`,
      'size          5.2 GB',
      'modified      3d ago (2026-01-10T00:00:00Z)',
      'family        qwen3',
      'parameters    8B',
      'quantization  Q4_K_M',
      'capabilities  completion, tools',
      'nodes         gpu-a, gpu-b (older)',
      'loaded on     gpu-b, gpu-c',
      '',
    ].join('\n'),
  )
})
