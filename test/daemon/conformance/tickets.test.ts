import t from 'tap'
import { randomUUID } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { freePort, startDaemon, ticketFields, type TicketFields } from '../../support/daemon.js'
import { request, type Reply } from '../../support/http.js'
import { sleep } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'

t.test('J. tickets', async (t) => {
  const daemon = await startDaemon(t, { config: { daemon: { inactivity_timeout: 37 } } })
  const control = (method: string, path: string, body?: unknown): Promise<Reply> =>
    daemon.controlRequest(method, path, body)
  const put = (ticket: TicketFields): Promise<Reply> =>
    control('PUT', `/tickets/${encodeURIComponent(String(ticket['uuid']))}`, ticket)
  const isKnown = async (id: string): Promise<boolean> =>
    (await control('GET', `/tickets/${encodeURIComponent(id)}`)).status === 200

  t.test('157, 165-166, 169: a ticket comes back with its defaults', async (t) => {
    const ticket = ticketFields()
    const reply = await put(ticket)
    t.equal(reply.status, 200)
    t.equal(reply.headers['content-length'], '0')
    const info = await control('GET', `/tickets/${ticket.uuid}`)
    t.match(info.headers['content-type'], /^application\/json/)
    t.ok(info.text.endsWith('}\n'))
    const { expires, ...rest } = info.json as Record<string, unknown>
    t.strictSame(rest, {
      ...ticket,
      inactivity_timeout: 37,
      transfer_id: `(ticket/${ticket.uuid.slice(0, 18)})`,
      sparse: false,
      dirty: false,
      active: false,
      canceled: false,
      connections: 0,
      idle_time: 0,
    })
    t.ok(Number.isInteger(expires) && Number(expires) > 0 && Number(expires) < 2 ** 31)
  })

  t.test('157: everything given comes back', async (t) => {
    const ticket = {
      ...ticketFields(),
      ...{ ops: ['read'], inactivity_timeout: 7, transfer_id: 'transfer', filename: 'größe.img' },
      ...{ sparse: true, dirty: true },
    }
    t.equal((await put(ticket)).status, 200)
    const info = (await control('GET', `/tickets/${ticket.uuid}`)).json
    t.match(info, { ...ticket, transferred: 0 })
    const unnamed = { ...ticketFields(), transfer_id: '', filename: '' }
    t.equal((await put(unnamed)).status, 200)
    const { json } = await control('GET', `/tickets/${unnamed.uuid}`)
    t.notOk('transfer_id' in (json as object))
    t.notOk('filename' in (json as object))
  })

  t.test('157: sizes up to 2^64 are kept exactly', async (t) => {
    for (const size of ['18446744073709551616', '9007199254740993', '9223372036854775807', '0']) {
      const ticket = ticketFields()
      const json = JSON.stringify({ ...ticket, size: 0 }).replace('"size":0', `"size":${size}`)
      t.equal((await control('PUT', `/tickets/${ticket.uuid}`, json)).status, 200, size)
      const { text } = await control('GET', `/tickets/${ticket.uuid}`)
      t.match(text, new RegExp(`"size": ?${size}[,}]`))
      const options = await request(daemon.remote, 'OPTIONS', '/images/*')
      t.equal(options.status, 200)
    }
  })

  t.test('158: what is required is required', async (t) => {
    for (const key of ['uuid', 'size', 'ops', 'timeout', 'url']) {
      const { uuid, ...rest } = ticketFields()
      const ticket: Record<string, unknown> = { uuid, ...rest }
      delete ticket[key]
      t.equal((await control('PUT', `/tickets/${uuid}`, ticket)).status, 400, key)
      t.notOk(await isKnown(uuid))
    }
  })

  t.test('159: values of the wrong type give 400', async (t) => {
    const wrong: [string, unknown[]][] = [
      ['uuid', [1, null, true, [], {}]],
      ['size', ['1', 1.5, null, true, [], -1]],
      ['ops', ['read', null, {}, 1, ['READ'], ['read', 'execute'], [1], [null]]],
      ['timeout', ['1', 1.5, null, true, -1]],
      ['url', [1, null, []]],
      ['inactivity_timeout', ['1', 1.5, null, true, 0, -1]],
      ['transfer_id', [1, null, false]],
      ['filename', [1, null, 'a\r\nb', 'a\0b']],
      ['sparse', [0, 1, null, 'true']],
      ['dirty', [0, 1, null, 'true']],
    ]
    for (const [key, values] of wrong) {
      for (const value of values) {
        const { uuid, ...rest } = ticketFields()
        const reply = await control('PUT', `/tickets/${uuid}`, { uuid, ...rest, [key]: value })
        t.equal(reply.status, 400, `${key}: ${JSON.stringify(value)}`)
        t.notOk(await isKnown(uuid))
      }
    }
  })

  t.test('160: only addresses of known kinds are taken', async (t) => {
    for (const url of ['ftp://x', '/path', 'http://[1.2.3.4:33', '', 'file', '://', 'relative']) {
      t.equal((await put({ ...ticketFields(), url })).status, 400, url)
    }
    for (const [url, shown] of [
      ['FILE:/x', 'file:///x'],
      ['file:/a/b', 'file:///a/b'],
      ['file:///a', 'file:///a'],
    ] as const) {
      const ticket = { ...ticketFields(), url }
      t.equal((await put(ticket)).status, 200, url)
      t.equal((await daemon.ticket(ticket.uuid)).url, shown)
    }
  })

  t.test('161: unknown keys are ignored', async (t) => {
    const ticket = { ...ticketFields(), future: { x: [1] } }
    t.equal((await put(ticket)).status, 200)
    t.notOk('future' in (await daemon.ticket(ticket.uuid)))
  })

  t.test('162-163: other bodies, and no id, give 400', async (t) => {
    for (const body of ['', '{', '[]', 'null', '"x"', '5', `${JSON.stringify(ticketFields())},`]) {
      t.equal((await control('PUT', '/tickets/x', body)).status, 400, body)
    }
    t.equal((await control('PUT', '/tickets/', ticketFields())).status, 400)
    t.equal((await control('PUT', '/tickets/', { ...ticketFields(), uuid: '' })).status, 400)
  })

  t.test('163: the id in the path is the one in the body', async (t) => {
    const ticket = ticketFields()
    t.equal((await control('PUT', `/tickets/${randomUUID()}`, ticket)).status, 400)
    t.notOk(await isKnown(ticket.uuid))
    const odd = { ...ticketFields(), uuid: 'a/b c%d?e' }
    t.equal((await put(odd)).status, 200, 'any text may be an id')
    t.ok(await isKnown(odd.uuid))
  })

  t.test('164: the same id again cancels what runs and starts afresh', async (t) => {
    const image = await daemon.addImage(8192, { ops: ['write'] })
    const { remote } = daemon
    t.equal((await request(remote, 'PUT', image.url, { body: 'data' })).status, 200)
    await daemon.ticketWhen(image.id, 'counted', (info) => info.transferred === 4)
    const wire = await Wire.open(remote)
    const fields = 'Host: localhost\r\nContent-Length: 100\r\n\r\n'
    await wire.send(`PUT ${image.url} HTTP/1.1\r\n${fields}partial`)
    await daemon.ticketWhen(image.id, 'running', (info) => info.active)
    const again = { size: 8192, ops: ['write'], uuid: image.id }
    await daemon.addTicketFor(image.file, again)
    t.match(await daemon.ticket(image.id), { transferred: 0, active: false, canceled: false })
    await wire.rest()
    t.equal((await request(remote, 'PUT', image.url, { body: 'more' })).status, 200)
    await daemon.ticketWhen(image.id, 'counted anew', (info) => info.transferred === 4)
  })

  t.test('167-168: reading tickets', async (t) => {
    t.equal((await control('GET', '/tickets/unknown')).status, 404)
    t.equal((await control('GET', '/tickets/')).status, 400)
    const id = await daemon.addTicket({ timeout: 0 })
    t.equal((await control('GET', `/tickets/${id}`)).status, 200, 'although expired')
  })

  t.test('167: the list of all tickets shortens their ids', async (t) => {
    const id = await daemon.addTicket({ timeout: 200, transfer_id: 'listed' })
    const reply = await control('GET', '/tickets')
    t.equal(reply.status, 200)
    const list = reply.json as Record<string, unknown>[]
    const entry = list.find((ticket) => ticket['transfer_id'] === 'listed')
    t.ok(entry)
    t.notOk(reply.text.includes(id))
    t.ok(id.startsWith(String(entry?.['uuid']).replace(/…|\.\.\.$/, '')))
    const left = Number(entry?.['seconds_left'])
    t.ok(left > 195 && left <= 200, `${left} seconds left`)
  })

  t.test('170: an extension changes only when the ticket expires', async (t) => {
    const id = await daemon.addTicket({ timeout: 100 })
    const before = await daemon.ticketWhen(id, 'idle', (info) => info.idle_time >= 1)
    const reply = await control('PATCH', `/tickets/${id}`, { timeout: 300, size: 5 })
    t.equal(reply.status, 200)
    t.equal(reply.headers['content-length'], '0')
    const after = await daemon.ticket(id)
    const gained = after.expires - before.expires
    t.ok(gained >= 200 && gained <= 203, `${gained} seconds gained`)
    t.match(after, { timeout: 100, size: 8192 })
    t.ok(after.idle_time >= 1)
  })

  t.test('171-172: an extension revives a ticket, and one of 0 ends it', async (t) => {
    const image = await daemon.addImage(8192, { timeout: 0 })
    const get = async () => (await request(daemon.remote, 'GET', image.url)).status
    t.equal(await get(), 403)
    await control('PATCH', `/tickets/${image.id}`, { timeout: 300 })
    t.equal(await get(), 200)
    await control('PATCH', `/tickets/${image.id}`, { timeout: 0 })
    t.equal(await get(), 403)
  })

  t.test('173: other extensions are refused', async (t) => {
    const id = await daemon.addTicket({})
    for (const timeout of [-1, '1', 1.5, null, true, undefined]) {
      t.equal((await control('PATCH', `/tickets/${id}`, { timeout })).status, 400)
    }
    for (const body of ['', '{', '[]', 'null', '5']) {
      t.equal((await control('PATCH', `/tickets/${id}`, body)).status, 400, body)
    }
    t.equal((await control('PATCH', '/tickets/unknown', { timeout: 1 })).status, 404)
    t.equal((await control('PATCH', '/tickets/', { timeout: 1 })).status, 400)
  })

  t.test('174: an operation never shortens an extension', async (t) => {
    const image = await daemon.addImage(8192, { timeout: 10 })
    await control('PATCH', `/tickets/${image.id}`, { timeout: 300 })
    const { expires } = await daemon.ticket(image.id)
    t.equal((await request(daemon.remote, 'GET', image.url)).status, 200)
    t.equal((await request(daemon.remote, 'OPTIONS', image.url)).status, 200)
    t.ok((await daemon.ticket(image.id)).expires >= expires)
  })

  t.test('175-177: deleting one, none and all', async (t) => {
    const [one, two, three] = [
      await daemon.addTicket({}),
      await daemon.addTicket({}),
      await daemon.addTicket({}),
    ]
    for (const path of [`/tickets/${one}`, `/tickets/${one}`, '/tickets/unknown', '/tickets/']) {
      const wire = await Wire.open(daemon.control)
      const reply = await wire.ask(`DELETE ${path} HTTP/1.1\r\n\r\n`)
      t.equal(reply.status, 204, path)
      t.equal(reply.headers['content-length'], '0')
      t.equal((await wire.ask('GET /tickets HTTP/1.1\r\n\r\n')).status, 200, 'still in step')
      wire.destroy()
      if (path === '/tickets/unknown') t.ok(await isKnown(two))
    }
    t.notOk(await isKnown(two))
    t.notOk(await isKnown(three))
    t.strictSame((await control('GET', '/tickets')).json, [])
  })

  t.test('178, 182: other methods and paths', async (t) => {
    for (const method of ['OPTIONS', 'HEAD', 'POST']) {
      const reply = await control(method, '/tickets/x')
      t.equal(reply.status, 405, method)
      t.match(reply.headers['allow'], /GET.*PUT.*PATCH.*DELETE/)
    }
    t.equal((await control('GET', '/images/x')).status, 404)
    t.equal((await control('GET', '/profile/')).status, 404)
    t.equal((await request(daemon.remote, 'GET', '/tickets/x')).status, 404)
    t.equal((await request(daemon.local, 'GET', '/tickets')).status, 404)
  })

  t.test('179: the control socket is for owner and group only', async (t) => {
    const { mode, uid } = statSync(daemon.controlSocket)
    t.equal(mode & 0o777, 0o660)
    t.equal(uid, process.getuid?.())
  })

  t.test('168: a short timeout is not shorter than said', async (t) => {
    const image = await daemon.addImage(10, { timeout: 1 })
    const added = performance.now()
    await sleep(800)
    const { status } = await request(daemon.remote, 'HEAD', image.url)
    t.ok(status === 200 || performance.now() - added > 1000, `${status} after 0.8 s of 1 s`)
  })
})

t.test('168: an expired ticket is forgotten after its grace time', async (t) => {
  const daemon = await startDaemon(t, { config: { control: { expired_ticket_grace: 1 } } })
  const id = await daemon.addTicket({ timeout: 0 })
  const kept = await daemon.addTicket({ timeout: 300 })
  t.equal((await daemon.controlRequest('GET', `/tickets/${id}`)).status, 200)
  for (let look = 0; look < 40; look++) {
    const { status } = await daemon.controlRequest('GET', `/tickets/${id}`)
    if (status === 404) break
    await sleep(500)
  }
  t.equal((await daemon.controlRequest('GET', `/tickets/${id}`)).status, 404)
  t.equal((await daemon.controlRequest('GET', `/tickets/${kept}`)).status, 200)
})

t.test('180: a socket left over by a dead daemon is replaced', async (t) => {
  const first = await startDaemon(t)
  first.process.kill('SIGKILL')
  await first.exited()
  t.ok(statSync(first.controlSocket).isSocket())
  const second = await startDaemon(t, { from: first })
  t.equal((await second.controlRequest('GET', '/tickets')).status, 200)
})

t.test('181: control over TCP listens on IPv4 loopback', async (t) => {
  const port = await freePort()
  const config = { control: { transport: 'TCP', port } }
  const daemon = await startDaemon(t, { config, skips: ['control'] })
  const target = { host: '127.0.0.1', port }
  await daemon.listening([target])
  const ticket = ticketFields()
  const body = JSON.stringify(ticket)
  t.equal((await request(target, 'PUT', `/tickets/${ticket.uuid}`, { body })).status, 200)
  const wire = await Wire.open(target)
  const reply = await wire.ask(`GET /tickets/${ticket.uuid} HTTP/1.1\r\n\r\n`)
  t.equal(reply.status, 200, 'without Host')
  wire.destroy()
  t.equal((await request(target, 'GET', join('/images', ticket.uuid))).status, 404)
})
