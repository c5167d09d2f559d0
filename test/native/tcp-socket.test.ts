import t from 'tap'
import { once } from 'node:events'
import net from 'node:net'
import { hasPeerEnded } from '../../native/index.js'
import { until } from '../support/wait.js'

t.test('a peer that has ended is seen, also when nobody reads', async (t) => {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  t.teardown(() => void server.close())
  for (const end of ['end', 'resetAndDestroy'] as const) {
    const { port } = server.address() as net.AddressInfo
    const client = net.connect({ port, host: '127.0.0.1' })
    const [accepted] = (await once(server, 'connection')) as [net.Socket]
    for (const socket of [client, accepted]) socket.on('error', () => undefined)
    t.teardown(() => accepted.destroy())
    const { _handle: handle } = accepted as net.Socket & { _handle: { fd: number } }
    t.equal(hasPeerEnded(handle.fd), false)
    client.write('unread')
    client[end]()
    await until('the end is seen', () => hasPeerEnded(handle.fd))
  }
})

t.test('what is no TCP socket is an error', async (t) => {
  t.throws(() => hasPeerEnded(0x7fffffff), { code: 'EBADF', syscall: 'getsockopt(TCP_INFO)' })
  t.throws(() => hasPeerEnded(-1))
})
