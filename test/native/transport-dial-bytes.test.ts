/** Bytes to and from a server that was dialed: in order, and all of them before the end. */
import t from 'tap'
import { KiB } from '../../core/units.js'
import { until, within } from '../support/wait.js'
import { BODY, ask, dialing, response, withheld } from './dialing.js'

for (const isTls of [false, true]) {
  t.test(isTls ? 'with TLS' : 'without TLS', async (t) => {
    t.test('bytes go both ways as they come, and so does the end', async (t) => {
      const { dial, next, events } = await dialing(t, { isTls })
      const client = await dial()
      const server = await next()
      t.strictSame(client.addresses, ['127.0.0.1', '127.0.0.1'])
      const got: Buffer[] = []
      server.on('data', (chunk: Buffer) => got.push(chunk))
      const sent = 'x'.repeat(200_000)
      client.socket.write(sent)
      await until('all is there', () => Buffer.concat(got).length === sent.length)
      t.equal(Buffer.concat(got).toString(), sent)
      const answer = response(BODY) + 'y'.repeat(BODY)
      server.end(answer)
      await until('the end', () => events.includes('end'))
      t.equal(client.text(), answer, 'nobody asked for a body to be withheld')
      client.socket.destroy()
      await until('closed', () => events.includes('closed'))
    })

    t.test('a chunk is sent behind what the client has written', async (t) => {
      const { transport, dial, next } = await dialing(t, { isTls })
      const client = await dial()
      const server = await next()
      const got: Buffer[] = []
      server.on('data', (chunk: Buffer) => got.push(chunk))
      client.socket.write('head ')
      const chunk = Buffer.alloc(BODY, 'z')
      await transport.write(client.id, client.socket.bytesWritten, chunk)
      client.socket.write('tail')
      await until('all is there', () => Buffer.concat(got).length === BODY + 9)
      t.equal(Buffer.concat(got).toString(), `head ${chunk.toString()}tail`)
    })

    t.test('what the server said before it went is there, also when writing fails', async (t) => {
      const { transport, dial, next, events } = await dialing(t, { isTls })
      const client = await dial()
      const server = await next()
      const refusal = 'HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'
      // Nobody reads what is sent: destroying it resets the connection.
      server.pause()
      const writing = transport.write(client.id, 0, Buffer.alloc(32 * KiB * KiB))
      writing.catch(() => undefined)
      await until('bytes', () => (transport.sent(client.id) ?? 0) > BODY)
      server.write(refusal, () => server.destroy())
      client.socket.pause()
      await t.rejects(within('the write', 5000, writing))
      await until('it is known', () => transport.hasEnded(client.id))
      // Written to nobody, and no error that would keep the client from reading.
      const late = Promise.withResolvers<unknown>()
      client.socket.write('more', late.resolve)
      t.notOk(await within('the late write', 5000, late.promise))
      client.socket.resume()
      await until('the end', () => events.includes('end'))
      t.equal(client.text(), refusal)
      client.socket.destroy()
      await until('closed', () => events.includes('closed'))
    })

    t.test('orders end when it is cut', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next, events } = fixture
      const client = await dial()
      const server = await next()
      await ask(fixture, client, server, response(BODY))
      const number = await withheld(fixture, client, BODY)
      server.pause()
      const reading = transport.read(client.id, number, Buffer.alloc(10))
      const after = client.socket.bytesWritten
      const writing = transport.write(client.id, after, Buffer.alloc(64 * KiB * KiB))
      transport.cut(client.id)
      await t.rejects(within('the read', 5000, reading), { code: 'ECONNRESET' })
      await t.rejects(within('the write', 5000, writing), { code: 'ECONNRESET' })
      await until('closed', () => events.includes('closed'))
      t.ok(transport.hasEnded(client.id))
    })
  })
}
