import { Agent, createServer, type ServerResponse } from 'node:http'
import httpProxy from 'http-proxy'

/** http-proxy with kept-alive sockets to the node and nothing else. Usage: `bare-proxy.ts PORT NODE_PORT`. */
const [port, nodePort] = process.argv.slice(2).map(Number) as [number, number]

const proxy = httpProxy.createProxyServer({
  target: `http://127.0.0.1:${nodePort}`,
  agent: new Agent({ keepAlive: true }),
})
proxy.on('error', (_error, _request, response) => (response as ServerResponse).destroy())
// As long as llamero keeps them: the callers pause between the rounds.
createServer({ keepAliveTimeout: 65_000, noDelay: true }, (request, response) =>
  proxy.web(request, response),
).listen(port, '127.0.0.1')
