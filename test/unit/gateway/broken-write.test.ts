import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { readPastBrokenWrite } from '../../../lib/gateway/upstream/broken-write.ts'

/** Responds to the first bytes and resets the connection, while the thread that sent them is busy. */
const hastyServer = `
  const { createServer } = require('node:net')
  const { parentPort, workerData } = require('node:worker_threads')
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.write('the answer', () => {
      socket.resetAndDestroy()
      setTimeout(() => {
        Atomics.store(workerData, 0, 1)
        Atomics.notify(workerData, 0)
      }, 20)
    }))
  })
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))
`

for (const pieces of [1, 3])
  test(`a response that came before ${pieces} broken writes is read before the error (363)`, async () => {
    const isClosed = new Int32Array(new SharedArrayBuffer(4))
    const worker = new Worker(hastyServer, { eval: true, workerData: isClosed })
    try {
      const [port] = await once(worker, 'message')
      const socket = connect(Number(port), '127.0.0.1')
      readPastBrokenWrite(socket)
      const events: string[] = []
      socket.on('data', (bytes: Buffer) => events.push(String(bytes)))
      socket.on('error', () => events.push('error'))
      await once(socket, 'connect')
      socket.write('a beginning')
      Atomics.wait(isClosed, 0, 0, 5000)
      for (let n = 0; n < pieces; n++) socket.write('and more')
      await new Promise((resolve) => socket.once('close', resolve))
      assert.deepEqual(events, ['the answer', 'error'])
    } finally {
      await worker.terminate()
    }
  })
