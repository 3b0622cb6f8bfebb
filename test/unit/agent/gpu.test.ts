import assert from 'node:assert/strict'
import { test } from 'node:test'
import { labelsOf } from '../../../lib/agent/gpu.ts'

test('one GPU becomes its model, its memory and a count', () => {
  assert.deepEqual(labelsOf('NVIDIA GeForce RTX 4090, 24564\n'), {
    gpu: 'NVIDIA GeForce RTX 4090',
    vram_mib: '24564',
    gpus: '1',
  })
})

test('several GPUs are counted, their memory is added up, and each model is named once', () => {
  assert.deepEqual(labelsOf('NVIDIA L4, 23034\nNVIDIA L4, 23034\nTesla T4, 15360\n'), {
    gpu: 'NVIDIA L4, Tesla T4',
    vram_mib: '61428',
    gpus: '3',
  })
})

test('a GPU without memory of its own has no label for it', () => {
  assert.deepEqual(labelsOf('NVIDIA GB10, [N/A]\n'), { gpu: 'NVIDIA GB10', gpus: '1' })
})

test('an answer that is no list of GPUs makes no labels', () => {
  for (const text of ['', '\n', 'No devices were found\n']) assert.deepEqual(labelsOf(text), {})
})
