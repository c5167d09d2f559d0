/** Bodies of responses that are withheld from the HTTP client, and read into buffers instead. */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { until, within } from '../support/wait.js'
import { BODY, REQUEST, ask, dialing, response, withheld, type Dialed } from './dialing.js'

for (const isTls of [false, true]) {
  t.test(isTls ? 'with TLS' : 'without TLS', async (t) => {
    t.test('the body of a response that was asked for fills the buffers', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      const body = Buffer.alloc(BODY, 'abc')
      for (const round of [1, 2]) {
        await ask(fixture, client, server, response(BODY))
        const number = await withheld(fixture, client, BODY, round - 1)
        t.equal(number, round)
        server.write(body)
        server.write(response(3) + 'end')
        const target = Buffer.alloc(BODY)
        const first = transport.read(client.id, number, target.subarray(0, 1000))
        const rest = transport.read(client.id, number, target.subarray(1000))
        t.strictSame(await Promise.all([first, rest]), [1000, BODY - 1000])
        t.ok(target.equals(body))
        await until('what is behind it', () => client.text().split('3\r\n').length === round + 1)
        await until('its body', () => client.text().endsWith('end'))
        await t.rejects(transport.read(client.id, number, target), { code: 'ECANCELED' })
      }
      const [head] = client.text().split('\r\n\r\n')
      t.match(
        head,
        /^HTTP\/1.1 200 OK\r\nContent-Length: 0\r\nx-imageio-withheld: .*\r\nETag: "1"$/,
      )
    })

    t.test('what is not large and plain passes as it came', async (t) => {
      const answers = {
        small: response(3) + 'abc',
        chunked: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
        'with two lengths': response(BODY, `Content-Length: ${BODY}\r\n`),
        'another status': `HTTP/1.1 403 No\r\nContent-Length: ${BODY}\r\n\r\n` + 'x'.repeat(BODY),
        'of HTTP/1.0': `HTTP/1.0 200 OK\r\nContent-Length: ${BODY}\r\n\r\n`,
        'with a field of ours': response(BODY, 'X-Imageio-Withheld: 0.1 70000\r\n'),
        'without a length': 'HTTP/1.1 200 OK\r\n\r\nabc',
        'no HTTP': '\r\n\0nonsense',
      }
      for (const [name, answer] of Object.entries(answers)) {
        const fixture = await dialing(t, { isTls })
        const client = await fixture.dial()
        await ask(fixture, client, await fixture.next(), answer)
        await until(name, () => client.text().length >= answer.length)
        t.equal(client.text(), answer, name)
      }
    })

    t.test('interim answers pass, and the final one is what is withheld', async (t) => {
      const fixture = await dialing(t, { isTls })
      const client = await fixture.dial()
      const server = await fixture.next()
      const interim = 'HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 102 Wait\r\n\r\n'
      await ask(fixture, client, server, interim + response(BODY) + 'z'.repeat(BODY))
      const number = await withheld(fixture, client, BODY)
      t.ok(client.text().startsWith(interim))
      const target = Buffer.alloc(BODY)
      t.equal(await fixture.transport.read(client.id, number, target), BODY)
      t.equal(target.toString(), 'z'.repeat(BODY))
    })

    t.test('bytes that nobody had asked for are never taken for the answer', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      server.write(response(200))
      await until('they are there', () => client.text().length > 0)
      // As if the client had not read them yet.
      transport.withholdNext(client.id, 0)
      client.socket.write(REQUEST)
      await once(server, 'data')
      const answer = response(BODY) + 'x'.repeat(BODY)
      server.write(answer)
      await until('all of it', () => client.text().length === response(200).length + answer.length)
      t.ok(client.text().endsWith(answer))
    })

    t.test('a body that is cut short is told by what came of it', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      await ask(fixture, client, server, response(BODY) + 'x'.repeat(100_000))
      const number = await withheld(fixture, client, BODY)
      server.end()
      t.equal(await transport.read(client.id, number, Buffer.alloc(BODY)), 100_000)
      const again = transport.read(client.id, number, Buffer.alloc(10))
      t.equal(await again.catch(() => 0), 0)
      await until('it is known', () => transport.hasEnded(client.id))
    })

    t.test('a read that lingers is answered with little', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next } = fixture
      const client = await dial()
      const server = await next()
      await ask(fixture, client, server, response(BODY))
      const number = await withheld(fixture, client, BODY)
      const target = Buffer.alloc(BODY)
      const reading = transport.read(client.id, number, target, true)
      server.write('abc')
      const size = await within('the read', 5000, reading)
      t.equal(target.subarray(0, size).toString(), 'abc')
      server.write('d'.repeat(BODY - size))
      let done = size
      while (done < BODY) {
        done += await transport.read(client.id, number, target.subarray(done), true)
      }
      t.equal(target.toString(), `abc${'d'.repeat(BODY - 3)}`)
    })

    t.test('many connections, whose bodies go on through others', async (t) => {
      const fixture = await dialing(t, { isTls })
      const { transport, dial, next, events } = fixture
      const body = Buffer.alloc(BODY, '0123456789')
      const one = async (from: Dialed, server: Socket, to: Dialed): Promise<void> => {
        for (let round = 1; round <= 3; round++) {
          await ask(fixture, from, server, Buffer.concat([Buffer.from(response(BODY)), body]))
          await until('the head', () => from.text().split('x-imageio-').length === round + 1)
          const target = Buffer.alloc(BODY)
          if ((await transport.read(from.id, round, target)) !== BODY) throw new Error('short')
          if (!target.equals(body)) throw new Error('other bytes')
          await transport.write(to.id, to.socket.bytesWritten, target)
        }
      }
      const pairs: { client: Dialed; server: Socket }[] = []
      for (let index = 0; index < 16; index++) {
        const client = await dial()
        pairs.push({ client, server: await next() })
      }
      const relays = pairs.slice(0, 8).map(async ({ client, server }, index) => {
        const to = pairs[8 + index]
        if (to === undefined) throw new Error('no pair')
        let got = 0
        to.server.on('data', ({ length }: Buffer) => (got += length))
        if (index % 4 === 3) transport.cut(to.client.id)
        const done = await one(client, server, to.client).then(
          () => true,
          () => false,
        )
        if (done) await until('all of it', () => got === 3 * BODY)
        return done
      })
      t.equal((await Promise.all(relays)).filter(Boolean).length, 6)
      for (const { client } of pairs) client.socket.destroy()
      await until('the end', () => events.filter((event) => event === 'closed').length === 16)
    })
  })
}
