import { connect, createServer } from 'node:net'

/** The least a Node proxy can do: bytes from socket to socket. Usage: `relay.ts PORT NODE_PORT`. */
const [port, nodePort] = process.argv.slice(2).map(Number) as [number, number]

createServer({ noDelay: true }, (caller) => {
  const node = connect({ host: '127.0.0.1', port: nodePort, noDelay: true })
  caller.pipe(node).pipe(caller)
  caller.on('error', () => node.destroy()).on('close', () => node.destroy())
  node.on('error', () => caller.destroy()).on('close', () => caller.destroy())
}).listen(port, '127.0.0.1')
