import assert from 'node:assert/strict'
import { test } from 'node:test'
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
