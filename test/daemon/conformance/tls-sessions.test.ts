/** Sessions of TLS: resumed, and with tickets of one size, with and without the front. */
import { once } from 'node:events'
import { connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { startDaemon, type Daemon } from '../../support/daemon.js'

function visit({ port, ca }: Daemon, session?: Buffer): TLSSocket {
  const options = { port, host: '127.0.0.1', servername: 'localhost', ca }
  return connect(session === undefined ? options : { ...options, session })
}

// How a client's memory is laid out behind the handshake may decide how fast it is: docs/benchmarks.md.
t.test('a client resumes its session, whose ticket is as long as without the front', async (t) => {
  const sizes: (number | undefined)[] = []
  for (const native of ['on', 'off']) {
    const daemon = await startDaemon(t, { config: { transport: { native } } })
    const first = visit(daemon)
    const [session] = (await once(first, 'session')) as [Buffer]
    t.equal(first.isSessionReused(), false)
    sizes.push(first.getTLSTicket()?.length)
    const again = visit(daemon, session)
    await once(again, 'secureConnect')
    t.equal(again.isSessionReused(), true, native)
    for (const socket of [first, again]) socket.destroy()
  }
  t.type(sizes[0], 'number')
  t.equal(sizes[0], sizes[1])
})
