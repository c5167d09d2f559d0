/** Buffers of the proxy come back, whatever ends a transfer. */
import t, { type Test } from 'tap'
import { MiB } from '../../../core/units.js'
import { startFakeDaemon, type Script } from '../../support/fake-daemon.js'
import { request } from '../../support/http.js'
import { addTicket } from './fake-tickets.js'
import { ask, allAreFree, COUNT, get, HOST, put, start } from './buffers.js'

t.test('buffers come back', async (t) => {
  const { daemon, proxy, pair } = await start(
    t,
    { buffer_wait_timeout: 5 },
    {
      response_timeout: 1,
      max_connections_per_ticket: COUNT,
    },
  )

  t.test('when clients leave', async (t) => {
    const image = await pair.addImage(Buffer.alloc(64 * MiB))
    const down = await ask(t, proxy, get(image.url), false)
    const up = await ask(t, proxy, put(image.url))
    await up.send(Buffer.alloc(3 * MiB))
    await daemon.ticketWhen(image.id, 'both have begun', ({ connections }) => connections === 2)
    for (const wire of [down, up]) wire.destroy()
    await proxy.ticketWhen(image.id, 'both have gone', ({ active }) => !active)
    await allAreFree(t, proxy, 'clients that left')
  })

  t.test('when tickets are removed here or there', async (t) => {
    for (const side of [proxy, daemon]) {
      const image = await pair.addImage(Buffer.alloc(64 * MiB))
      const wires = [
        await ask(t, proxy, get(image.url), false),
        await ask(t, proxy, `${put(image.url)}start`),
      ]
      await daemon.ticketWhen(image.id, 'both have begun', ({ connections }) => connections === 2)
      t.equal((await side.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
      for (const wire of wires) wire.read()
      await daemon
        .ticketWhen(image.id, 'left', ({ active }) => !active)
        .catch((error: unknown) => t.match(error, /404/))
      await allAreFree(t, proxy, 'removed tickets')
    }
  })

  /** A daemon that takes no more than its kernel does. */
  const upload = async (t: Test, script: Script, length = `Content-Length: ${64 * MiB}`) => {
    const fake = await startFakeDaemon(t, (asked, count) => {
      asked.socket.pause()
      script(asked, count)
    })
    const url = await addTicket(proxy, fake, { size: 64 * MiB })
    const wire = await ask(t, proxy, `PUT ${url} HTTP/1.1\r\n${HOST}${length}\r\n\r\n`)
    const isChunked = length.startsWith('Transfer')
    const chunk = Buffer.alloc(MiB)
    const sending = async (): Promise<void> => {
      for (let count = 0; count < 64; count++) {
        if (isChunked) await wire.send(`${MiB.toString(16)}\r\n`)
        if (!(await wire.send(chunk))) return
        if (isChunked) await wire.send('\r\n')
      }
    }
    void sending()
    await fake.when(1)
    return { fake, wire }
  }

  for (const length of [undefined, 'Transfer-Encoding: chunked']) {
    t.test(`when a daemon takes nothing, ${length ?? 'with a length'}`, async (t) => {
      const { fake, wire } = await upload(t, () => undefined, length)
      const { status, text } = await wire.response()
      t.match({ status, text }, { status: 504, text: /takes no more/ })
      await allAreFree(t, proxy, 'a write that was given up')
      for (const { socket } of fake.asked) socket.destroy()
    })

    t.test(`when it refuses what it does not take, ${length ?? 'with a length'}`, async (t) => {
      const { wire } = await upload(
        t,
        ({ socket }) => {
          const refuse = (): void => {
            socket.write('HTTP/1.1 507 Full\r\nContent-Length: 5\r\n\r\nfull\n')
          }
          setTimeout(refuse, 300)
        },
        length,
      )
      t.equal((await wire.response()).status, 507)
      await allAreFree(t, proxy, 'a refusal')
    })
  }

  t.test('when the daemon is killed', async (t) => {
    const image = await pair.addImage(Buffer.alloc(64 * MiB))
    const down = await ask(t, proxy, get(image.url), false)
    const up = await ask(t, proxy, `${put(image.url)}start`)
    await daemon.ticketWhen(image.id, 'both have begun', ({ connections }) => connections === 2)
    process.kill(daemon.pid, 'SIGKILL')
    t.equal((await up.response()).status, 502)
    down.read()
    t.ok((await down.rest()).length < 64 * MiB)
    t.equal((await request(proxy.remote, 'GET', image.url)).status, 502)
    await allAreFree(t, proxy, 'the death of the daemon')
  })
})
