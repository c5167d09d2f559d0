import t, { type Test } from 'tap'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startDaemon } from '../../support/daemon.js'
import { keepAlive, openH2, request, requestH2, type Reply } from '../../support/http.js'
import { sleep } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

/** Every request of the images API that needs a ticket: method, path behind the id, body. */
const REQUESTS = [
  ['GET', '', ''],
  ['HEAD', '', ''],
  ['PUT', '', 'data'],
  ['PATCH', '', '{"op":"zero","size":1}'],
  ['PATCH', '', '{"op":"flush"}'],
  ['OPTIONS', '', ''],
  ['GET', '/extents', ''],
] as const

const READS = REQUESTS.filter(([method]) => !['PUT', 'PATCH'].includes(method))
const WRITES = REQUESTS.filter(([method]) => ['PUT', 'PATCH'].includes(method))

t.test('B. authorization', async (t) => {
  const daemon = await startDaemon(t, { config: { control: { remove_timeout: 0 } } })
  const ask = (url: string, [method, path, body]: (typeof REQUESTS)[number]): Promise<Reply> =>
    request(daemon.remote, method, url + path, body === '' ? {} : { body })

  async function expectAll(
    t: Test,
    url: string,
    requests: readonly (typeof REQUESTS)[number][],
    status: number,
  ): Promise<void> {
    for (const one of requests) {
      t.equal((await ask(url, one)).status, status, `${one[0]} ${one[1]}`)
    }
  }

  t.test('35: an unknown ticket gives 403 and the end of the connection', async (t) => {
    for (const target of [daemon.remote, daemon.local]) {
      for (const [method, path, body] of REQUESTS) {
        const wire = await Wire.open(target)
        const fields = `Host: localhost\r\nContent-Length: ${body.length}\r\n`
        const head = `${method} /images/unknown${path} HTTP/1.1\r\n${fields}\r\n${body}`
        const reply = await wire.ask(head, { isHead: method === 'HEAD' })
        t.equal(reply.status, 403, `${method} ${path}`)
        t.match(reply.headers['connection'], /close/)
        t.ok(await wire.isClosedSilently())
      }
    }
  })

  t.test('37: an empty id gives 400', async (t) => {
    await expectAll(t, '/images/', REQUESTS, 400)
    t.equal((await request(daemon.remote, 'GET', '/images//extents')).status, 400)
  })

  t.test('38: an expired ticket gives 403', async (t) => {
    const image = await daemon.addImage(8192, { timeout: 1 })
    t.equal((await ask(image.url, REQUESTS[0])).status, 200)
    await sleep(1000)
    await sleep(300)
    await expectAll(t, image.url, REQUESTS, 403)
  })

  t.test('39: a ticket to read does not write', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['read'] })
    const before = image.bytes()
    await expectAll(t, image.url, READS, 200)
    await expectAll(t, image.url, WRITES, 403)
    t.same(image.bytes(), before)
  })

  t.test('40: a ticket to write also reads', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['write'] })
    await expectAll(t, image.url, REQUESTS, 200)
    const headers = { range: 'bytes=0-9' }
    t.equal((await request(daemon.remote, 'GET', image.url, { headers })).status, 206)
    const options = await request(daemon.remote, 'OPTIONS', image.url)
    t.match(options.headers['allow'], /PUT.*PATCH/)
  })

  t.test('41: a ticket without operations allows nothing', async (t) => {
    await expectAll(t, (await daemon.addImage(8192, { ops: [] })).url, REQUESTS, 403)
  })

  t.test('42: a canceled ticket gives 403 while its last operation ends', async (t) => {
    const image = await daemon.addImage()
    t.equal((await daemon.controlRequest('DELETE', `/tickets/${image.id}`)).status, 204)
    await expectAll(t, image.url, REQUESTS, 403)
  })

  t.test('43: an id with a slash is not found', async (t) => {
    for (const url of ['/images/a/b', '/images/a%2Fb', '/images/a/b/extents']) {
      t.equal((await request(daemon.remote, 'GET', url)).status, 403, url)
    }
  })

  t.test('44: a ticket for a missing image is added and fails when used', async (t) => {
    const file = join(daemon.dir, 'appears-later')
    const { url } = await daemon.addTicketFor(file, { size: 5 })
    const agent = keepAlive(daemon.remote)
    const ask = () => request(daemon.remote, 'GET', url, { agent })
    t.equal((await ask()).status, 500)
    writeFileSync(file, 'hello')
    t.equal((await ask()).text, 'hello', 'a failure to open is not remembered')
    agent.destroy()
  })

  t.test('35: errors tell nothing about tickets', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['read'] })
    const wrong = { headers: { range: 'junk' } }
    t.equal((await request(daemon.remote, 'GET', '/images/unknown', wrong)).status, 416)
    const put = { headers: { 'content-range': 'junk' }, body: 'x' }
    t.equal((await request(daemon.remote, 'PUT', '/images/unknown', put)).status, 400)
    for (const one of WRITES) t.notOk((await ask(image.url, one)).text.includes(image.id))
    const secret = 'd2719b6c-7f0f-4c4c-9c6b-1a2b3c4d5e6f'
    t.notOk((await ask(`/images/${secret}`, REQUESTS[0])).text.includes(secret))
    t.notOk(daemon.logText().includes(secret), 'nor does the log')
  })

  t.test('35: the same over HTTP/2, where the session stays', async (t) => {
    const session = await openH2(daemon.remote)
    t.teardown(() => session.destroy())
    const image = await daemon.addImage()
    for (const [method, path, body] of REQUESTS) {
      const content = body === '' ? {} : { body }
      t.equal((await requestH2(session, method, `/images/unknown${path}`, content)).status, 403)
      t.equal((await requestH2(session, method, `${image.url}${path}`, content)).status, 200)
    }
  })
})

t.test('C. OPTIONS', async (t) => {
  const config = { daemon: { max_connections: 5 } }
  const daemon = await startDaemon(t, { config })
  const options = (url: string): Promise<Reply> => request(daemon.remote, 'OPTIONS', url)
  const READ = ['checksum', 'extents']
  const WRITE = ['checksum', 'extents', 'flush', 'zero']

  t.test('45-46: the star tells what the server can do, and its socket', async (t) => {
    for (const url of ['/images/*', '/images/%2A']) {
      const reply = await options(url)
      t.equal(reply.status, 200)
      t.equal(reply.headers['allow'], 'OPTIONS,GET,PUT,PATCH')
      t.match(reply.headers['content-type'], /^application\/json/)
      t.strictSame(reply.json, { unix_socket: daemon.localSocket, features: WRITE })
      t.match(reply.text, /"\\u0000imageio-test-/, 'NUL is written as \\u0000')
      t.ok(reply.text.endsWith('}\n'))
    }
  })

  t.test('48: a ticket to read offers reading', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['read'] })
    const reply = await options(image.url)
    t.equal(reply.headers['allow'], 'OPTIONS,GET')
    t.match(reply.json, { unix_socket: daemon.localSocket, features: READ })
  })

  t.test('49: a ticket to write offers everything', async (t) => {
    for (const ops of [['read', 'write'], ['write']]) {
      const reply = await options((await daemon.addImage(8192, { ops })).url)
      t.equal(reply.headers['allow'], 'OPTIONS,GET,PUT,PATCH')
      t.match(reply.json, { features: WRITE })
    }
  })

  t.test('50: a regular file has many readers and one writer, and its facts', async (t) => {
    const fields = { size: 5000, transfer_id: 'transfer-1', sparse: true }
    const image = await daemon.addImage(8192, fields)
    const facts = (await options(image.url)).json as Record<string, unknown>
    t.match(facts, {
      max_readers: 5,
      max_writers: 1,
      size: 5000,
      sparse: true,
      dirty: false,
      transfer_id: 'transfer-1',
    })
    t.ok([512, 4096].includes(Number(facts['block_size'])), 'a block')
  })

  t.test('53: OPTIONS on a ticket is activity', async (t) => {
    const image = await daemon.addImage(8192, { timeout: 100 })
    const before = await daemon.ticketWhen(image.id, 'idle', (info) => info.idle_time >= 1)
    await options(image.url)
    const after = await daemon.ticket(image.id)
    t.equal(after.idle_time, 0)
    t.ok(after.expires > before.expires, `${before.expires} -> ${after.expires}`)
  })

  t.test('54: OPTIONS on the star touches no ticket', async (t) => {
    const image = await daemon.addImage(8192, { timeout: 100 })
    const before = await daemon.ticketWhen(image.id, 'idle', (info) => info.idle_time >= 1)
    await options('/images/*')
    const after = await daemon.ticket(image.id)
    t.ok(after.idle_time >= 1)
    t.equal(after.expires, before.expires)
  })
})

t.test('46-47: OPTIONS tells the address of the local service, if there is one', async (t) => {
  const without = await startDaemon(t, {
    config: { local: { enable: false } },
    skips: ['local'],
  })
  const reply = await request(without.remote, 'OPTIONS', '/images/*')
  t.strictSame(reply.json, { features: ['checksum', 'extents', 'flush', 'zero'] })
  const path = join(without.dir, 'run', 'local.sock')
  const pathname = await startDaemon(t, { config: { local: { socket: path } }, skips: ['local'] })
  const other = await request(pathname.remote, 'OPTIONS', '/images/*')
  t.match(other.json, { unix_socket: path })
  t.equal((await request({ path }, 'OPTIONS', '/images/*')).status, 200)
})
