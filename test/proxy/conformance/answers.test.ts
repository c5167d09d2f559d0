/** Answers that no daemon may give: what a client believes must be true. */
import t from 'tap'
import { MiB } from '../../../core/units.js'
import { request, type Reply } from '../../support/http.js'
import { startProxy } from '../../support/proxy.js'
import { startFakeDaemon } from '../../support/fake-daemon.js'
import { until } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { addTicket } from './fake-tickets.js'

const HOST = 'Host: localhost\r\n'
const OK = 'HTTP/1.1 200 OK\r\n'
const SUCCESS = `${OK}Content-Length: 0\r\n\r\n`

t.test('answers that are not to be believed', async (t) => {
  const proxy = await startProxy(t, { proxy: { allow_http: true } })

  t.test('success before the end of the body is none', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => socket.write(SUCCESS))
    const chunked = 'Transfer-Encoding: chunked\r\n'
    for (const rest of [
      'Content-Length: 900\r\n\r\nstart',
      `${chunked}\r\n5\r\nstart\r\n`,
      'Expect: 100-continue\r\nContent-Length: 900\r\n\r\n',
      `Expect: 100-continue\r\n${chunked}\r\n`,
    ]) {
      const url = await addTicket(proxy, fake, { ops: ['write'] })
      const wire = await Wire.open(proxy.remote)
      t.teardown(() => wire.destroy())
      await wire.send(`PUT ${url} HTTP/1.1\r\n${HOST}${rest}`)
      t.match(await wire.response(), { status: 502, text: /before the end of the body/ }, rest)
      t.equal((await proxy.ticket(url.slice('/images/'.length))).transferred, 0)
    }
  })

  t.test('success with the last byte is success', async (t) => {
    const fake = await startFakeDaemon(t, (asked) => {
      void until('the body is there', () => asked.body().length === MiB).then(() =>
        asked.socket.write(SUCCESS),
      )
    })
    for (let count = 0; count < 20; count++) {
      const url = await addTicket(proxy, fake, { ops: ['write'] })
      const wire = await Wire.open(proxy.remote)
      t.teardown(() => wire.destroy())
      const head = `PUT ${url} HTTP/1.1\r\n${HOST}Content-Length: ${MiB}\r\n\r\n`
      await wire.send(Buffer.concat([Buffer.from(head), Buffer.alloc(MiB)]))
      t.equal((await wire.response()).status, 200)
      t.equal((await proxy.ticket(url.slice('/images/'.length))).transferred, MiB)
    }
  })

  t.test('a transfer coding other than chunked is 502', async (t) => {
    const coded = (coding: string, version = '1.1'): string =>
      `HTTP/${version} 200 OK\r\nTransfer-Encoding: ${coding}\r\n\r\n`
    for (const bytes of [
      `${coded('gzip')}half of the im`,
      `${coded('identity')}half of the im`,
      `${coded('chunked, gzip')}5\r\nhello\r\n`,
      `${coded('gzip, chunked')}5\r\nhello\r\n0\r\n\r\n`,
      `${coded('chunked', '1.0')}5\r\nhello\r\n0\r\n\r\n`,
    ]) {
      const fake = await startFakeDaemon(t, ({ socket }) => socket.end(bytes))
      for (const path of ['', '/extents', '/checksum']) {
        const reply = await request(proxy.remote, 'GET', (await addTicket(proxy, fake)) + path)
        t.equal(reply.status, 502, JSON.stringify(bytes))
      }
      const put = await request(proxy.remote, 'PUT', await addTicket(proxy, fake), { body: '' })
      t.equal(put.status, 502)
    }
  })

  t.test('a part that is not the one asked for is 502', async (t) => {
    const part = (range: string, body = 'hello'): string =>
      `HTTP/1.1 206 Part\r\nContent-Range: bytes ${range}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    const cases: [string | undefined, string][] = [
      [undefined, part('5-9/10')],
      ['bytes=0-4', part('5-9/10')],
      ['bytes=0-5', part('0-4/10')],
      ['bytes=5-', part('5-9/11')],
      ['bytes=0-4', part('0-4/10', 'helloevil')],
      ['bytes=0-4', part('4-0/10')],
      ['bytes=5-9', part('5-9/8')],
      ['bytes=-4', part('5-9/10')],
      ['bytes=-6', part('4-8/10')],
    ]
    for (const [range, bytes] of cases) {
      const fake = await startFakeDaemon(t, ({ socket }) => socket.write(bytes))
      const headers: Record<string, string> = range === undefined ? {} : { range }
      const url = await addTicket(proxy, fake)
      const reply = await request(proxy.remote, 'GET', url, { headers })
      t.equal(reply.status, 502, `${range}: ${JSON.stringify(bytes)}`)
      if (range === undefined) t.equal((await request(proxy.remote, 'HEAD', url)).status, 502)
    }
    const fake = await startFakeDaemon(t, ({ socket }) => socket.write(part('5-9/*')))
    const url = await addTicket(proxy, fake)
    for (const range of ['bytes=5-9', 'bytes=5-', 'bytes=-5']) {
      t.equal((await request(proxy.remote, 'GET', url, { headers: { range } })).status, 206, range)
    }
  })

  t.test('a part in chunks is no longer than it says', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      const range = 'Content-Range: bytes 0-3/10\r\n'
      const body = '5\r\nhello\r\n0\r\n\r\n'
      socket.write(`HTTP/1.1 206 Part\r\n${range}Transfer-Encoding: chunked\r\n\r\n${body}`)
    })
    const url = await addTicket(proxy, fake)
    const headers = { range: 'bytes=0-3' }
    const reply = await request(proxy.remote, 'GET', url, { headers }).catch(() => undefined)
    t.not(reply?.status, 206)
  })

  t.test('204 has no length but nought', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket }) => {
      socket.write('HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n')
    })
    const reply = await request(proxy.remote, 'GET', await addTicket(proxy, fake))
    t.match(reply, { status: 204, headers: { 'content-length': '0' } })
  })

  t.test('success before all zeroes were written is none', async (t) => {
    const fake = await startFakeDaemon(t, ({ socket, method }) => {
      if (method === 'PUT') socket.write(SUCCESS)
      else socket.write('HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n')
    })
    const url = await addTicket(proxy, fake, { size: 64 * MiB })
    const body = `{"op": "zero", "size": ${64 * MiB}}`
    const reply: Reply = await request(proxy.remote, 'PATCH', url, { body })
    t.match(reply, { status: 502, text: /before the end of the body/ })
  })
})
