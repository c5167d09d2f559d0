import net from 'node:net'
import t, { type Test } from 'tap'
import { Connection } from '../../../core/http/connection.js'
import { sleep, until } from '../../support/wait.js'
import { connectionWith } from './exchanges.js'

/** A connection over a real socket, and the client's end. */
async function connected(t: Test): Promise<{ connection: Connection; client: net.Socket }> {
  const server = net.createServer({ allowHalfOpen: true })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const accepted = new Promise<net.Socket>((resolve) => server.once('connection', resolve))
  const { port } = server.address() as net.AddressInfo
  const client = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  client.on('error', () => undefined)
  const socket = await accepted
  t.teardown(() => {
    client.destroy()
    socket.destroy()
    server.close()
  })
  return { connection: connectionWith(60_000, socket), client }
}

t.test('each connection has its own number', async (t) => {
  t.not(connectionWith().id, connectionWith().id)
  t.equal(connectionWith().protocol, 'h1')
})

t.test('requests run one after the other, in order', async (t) => {
  const connection = connectionWith()
  const events: string[] = []
  const first = Promise.withResolvers<undefined>()
  connection.enqueue(async () => {
    events.push('first begins')
    await first.promise
    events.push('first ends')
  })
  connection.enqueue(async () => void events.push('second'))
  const third = new Promise<void>((resolve) => {
    connection.enqueue(async () => resolve())
  })
  await sleep(5)
  t.strictSame(events, ['first begins'])
  first.resolve(undefined)
  await third
  t.strictSame(events, ['first begins', 'first ends', 'second'])
})

t.test('more than a hundred requests may not wait, and the hundredth is the last', async (t) => {
  const connection = connectionWith()
  const gate = Promise.withResolvers<undefined>()
  const last: boolean[] = []
  for (let request = 0; request < 150; request++) {
    connection.enqueue(async () => {
      await gate.promise
      last.push(connection.isLast)
    })
  }
  t.equal(connection.isLast, false)
  gate.resolve(undefined)
  await until('all that were accepted', () => last.length >= 100)
  connection.enqueue(async () => {
    t.fail('none is accepted any more')
  })
  await sleep(5)
  t.strictSame(last, [...Array<boolean>(99).fill(false), true])
})

t.test('a connection is idle between requests only', async (t) => {
  const connection = connectionWith(20)
  t.equal(connection.isIdleTooLong, false)
  connection.begin()
  connection.begin()
  connection.end()
  await sleep(30)
  t.equal(connection.isActive, true)
  t.equal(connection.idleMs, 0)
  t.equal(connection.isIdleTooLong, false)
  connection.end()
  t.equal(connection.isActive, false)
  t.equal(connection.isIdleTooLong, false)
  await sleep(30)
  t.equal(connection.isIdleTooLong, true)
  t.equal(connection.requests, 2)
})

t.test('a ticket may lengthen the idle time, and never shortens it', async (t) => {
  const connection = connectionWith(20)
  connection.authorized(10)
  connection.authorized(10_000)
  connection.authorized(1)
  await sleep(30)
  t.equal(connection.isIdleTooLong, false)
})

t.test('what was opened for it closes with it', async (t) => {
  const connection = connectionWith()
  const closed: string[] = []
  const resource = (name: string): { close(): Promise<void> } => ({
    close: async () => void closed.push(name),
  })
  connection.resources.set({}, resource('a'))
  connection.resources.set({}, resource('b'))
  t.equal(connection.gone.aborted, false)
  await connection.closed()
  t.strictSame(closed, ['a', 'b'])
  t.equal(connection.resources.size, 0)
  t.equal(connection.isClosing, true)
  t.match(connection.gone.reason, { code: 'ERR_CLIENT_GONE' })
  await connection.closed()
  t.strictSame(closed, ['a', 'b'])
})

t.test('one resource that does not close keeps no other open', async (t) => {
  const connection = connectionWith()
  let isClosed = false
  connection.resources.set({}, { close: () => Promise.reject(new Error('stuck')) })
  connection.resources.set({}, { close: async () => void (isClosed = true) })
  await t.rejects(connection.closed(), { message: 'stuck' })
  t.equal(isClosed, true)
})

t.test('cut destroys the socket at once', async (t) => {
  const { connection, client } = await connected(t)
  connection.begin()
  connection.cut()
  t.equal(connection.isClosing, true)
  t.equal(connection.socket.destroyed, true)
  client.resume()
  await until('the client sees it', () => client.readableEnded || client.destroyed)
})

t.test('shutting down ends an idle connection, and waits for a busy one', async (t) => {
  const { connection, client } = await connected(t)
  connection.begin()
  connection.shutDown()
  t.equal(connection.isClosing, true)
  t.equal(connection.socket.writableEnded, false)
  connection.end()
  connection.shutDown()
  t.equal(connection.socket.writableEnded, true)
  client.resume()
  await until('the client sees the end', () => client.readableEnded)
})

t.test('it knows whether anything on it is held back', async (t) => {
  const connection = connectionWith()
  const [first, second] = [Promise.withResolvers<number>(), Promise.withResolvers<number>()]
  t.equal(connection.isHeldBack, false)
  const holds = [connection.holdBack(first.promise), connection.holdBack(second.promise)]
  t.equal(connection.isHeldBack, true)
  first.resolve(1)
  t.equal(await holds[0], 1)
  t.equal(connection.isHeldBack, true)
  second.reject(new Error('canceled'))
  await t.rejects(holds[1] ?? first.promise, { message: 'canceled' })
  t.equal(connection.isHeldBack, false)
})
