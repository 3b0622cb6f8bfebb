import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { Authority } from '../faults/certificates.ts'
import { aSnapshot } from '../support/fleet.ts'
import { startGateway } from '../support/gateway.ts'

const boundary = { 'content-type': 'multipart/form-data; boundary=b' }
const form =
  '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n'

test('an upload, which has a connection of its own, trusts a node with its own certificate as a chat does (321)', async (context) => {
  const authority = await Authority.create()
  const { cert, key } = await authority.issue({ commonName: 'node', hosts: 'IP:127.0.0.1' })
  const server = createServer(
    { cert: await readFile(cert), key: await readFile(key) },
    (request, response) =>
      void request.resume().on('end', () => {
        response.setHeader('content-type', 'application/json').end('{"text":"heard","done":true}')
      }),
  )
  context.after(async () => {
    server.closeAllConnections()
    server.close()
    await authority.delete()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  const ca = await readFile(authority.cert, 'utf8')
  for (const tls of [{ ca, insecure: false }, { insecure: true }]) {
    const node = { name: 'n', url, tls, loaded: ['m:latest'], capabilities: ['completion', 'audio'] }
    await using gateway = await startGateway(aSnapshot({ nodes: [node] }))
    const send = (path: string, body: string, headers = {}) =>
      fetch(`${gateway.url}${path}`, { method: 'POST', body, headers })
    const chat = await send('/api/chat', '{"model":"m","stream":false,"messages":[]}')
    assert.equal(chat.status, 200, await chat.text())
    const upload = await send('/v1/audio/transcriptions', form, boundary)
    assert.equal(upload.status, 200, await upload.text())
  }
})
