import { once } from 'node:events'
import net from 'node:net'
import t from 'tap'
import type { Handler } from '../../../core/http/routes.js'
import { openH2, request, requestH2 } from '../../support/http.js'
import { sleep, until, within } from '../../support/wait.js'
import { ask, gate, hello, serve, tlsMaterial } from './serving.js'

t.test('closing without connections is quick', async (t) => {
  const { server } = await serve(t, hello)
  await within('closing', 500, server.close(10_000))
  t.throws(() => server.address)
})

t.test('closing ends idle connections and lets running requests finish', async (t) => {
  const { handler, open: openGate, isWaiting } = gate()
  const { server, target, open } = await serve(t, handler)
  const [idle, busy] = [await open(), await open()]
  await busy.send(ask('/images/a') + ask('/images/b'))
  await until('the request', isWaiting)
  const closed = server.close(10_000)
  t.equal(await idle.isClosedSilently(1000), true)
  await t.rejects(request(target, 'GET', '/images/c'))
  openGate()
  const reply = await busy.response()
  t.equal(reply.text, 'waited a\n')
  t.equal(reply.headers['connection'], 'close')
  busy.end()
  t.equal(await busy.isClosedSilently(), true, 'what was sent ahead is not executed')
  await within('closing', 3000, closed)
})

t.test('closing cuts what has not finished in time', async (t) => {
  const { handler, isWaiting } = gate()
  const { server, open } = await serve(t, handler)
  const busy = await open()
  await busy.send(ask('/images/a'))
  await until('the request', isWaiting)
  const start = performance.now()
  await within('closing', 2000, server.close(100))
  t.ok(performance.now() - start >= 95)
  t.equal(await busy.isClosedSilently(), true)
})

t.test('closing lets streams of HTTP/2 finish', async (t) => {
  const { handler, open: openGate, isWaiting } = gate()
  const { server, target } = await serve(t, handler, { tls: tlsMaterial() })
  const [idle, busy] = [await openH2(target), await openH2(target)]
  const slow = requestH2(busy, 'GET', '/images/a')
  await until('the request', isWaiting)
  const closed = server.close(10_000)
  await within('the idle session', 1000, once(idle, 'close'))
  openGate()
  t.equal((await slow).text, 'waited a\n')
  await within('closing', 3000, closed)
})

t.test('closing cuts streams of HTTP/2 that have not finished in time', async (t) => {
  const { handler, isWaiting } = gate()
  const { server, target } = await serve(t, handler, { tls: tlsMaterial() })
  const slow = requestH2(await openH2(target), 'GET', '/images/a')
  slow.catch(() => undefined)
  await until('the request', isWaiting)
  await within('closing', 2000, server.close(100))
  await t.rejects(slow)
})

t.test('closing cuts handshakes that do not go on', async (t) => {
  const { server, target } = await serve(t, hello, { tls: tlsMaterial() })
  if ('path' in target) throw new Error('TCP expected')
  const silent = net.connect(target)
  t.teardown(() => silent.destroy())
  silent.on('error', () => undefined).resume()
  await once(silent, 'connect')
  await sleep(20)
  await within('closing', 2000, server.close(100))
  t.pass()
})

t.test('what a connection opened is closed when the client goes', async (t) => {
  let closed = 0
  const handler: Handler = (exchange) => {
    const close = async (): Promise<void> => {
      closed++
    }
    exchange.connection.resources.set({}, { close })
    exchange.send(200)
  }
  const { target, open, lines } = await serve(t, handler, { tls: tlsMaterial() })
  const wire = await open()
  await wire.ask(ask('/images/a'))
  t.equal(closed, 0)
  wire.destroy()
  await until('closing', () => closed === 1)
  const session = await openH2(target)
  await requestH2(session, 'GET', '/images/a')
  session.destroy()
  await until('closing', () => closed === 2)
  const facts = { msg: 'connection closed', client: '127.0.0.1', requests: 1 }
  await until('the log', () => lines.filter(({ msg }) => msg === facts.msg).length >= 2)
  t.match(
    lines.filter(({ msg }) => msg === facts.msg),
    [facts, facts],
  )
})
