import t from 'tap'
import { SystemError } from '../../../native/index.js'
import { exchangeWith } from '../../core/http/exchanges.js'
import { noteClose, parseFlush } from '../../../core/images/requests.js'
import { serveImages } from './served.js'

t.test('without a range it is the whole image', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add({ filename: 'disk.raw' })
  const reply = await ask(ticket, 'GET')
  t.equal(reply.status, 200)
  t.ok(reply.body.equals(backend.data))
  t.match(reply.headers, {
    'content-length': '1000',
    'accept-ranges': 'bytes',
    'content-disposition': 'attachment; filename=disk.raw',
    'content-type': 'application/octet-stream',
    etag: /^".+"$/,
  })
  t.equal(reply.headers['content-range'], undefined)
})

t.test('a range is 206 with the ticket’s size', async (t) => {
  const { backend, add, ask } = await serveImages(t)
  const ticket = await add({ size: 2n ** 64n })
  const reply = await ask(ticket, 'GET', '', { headers: { range: 'bytes=10-19' } })
  t.equal(reply.status, 206)
  t.equal(reply.headers['content-range'], `bytes 10-19/${2n ** 64n}`)
  t.ok(reply.body.equals(backend.data.subarray(10, 20)))
})

t.test('the smaller of ticket and image ends a download', async (t) => {
  const { add, ask } = await serveImages(t)
  t.equal((await ask(await add({ size: 600 }), 'GET')).body.length, 600)
  t.equal((await ask(await add({ size: 6000 }), 'GET')).body.length, 1000)
  t.equal((await ask(await add({ size: 0 }), 'GET')).body.length, 0)
})

t.test('HEAD tells the whole image, whatever the range', async (t) => {
  const { add, ask } = await serveImages(t)
  const reply = await ask(await add(), 'HEAD', '', { headers: { range: 'bytes=0-1' } })
  t.equal(reply.status, 200)
  t.equal(reply.headers['content-length'], '1000')
  t.equal(reply.body.length, 0)
})

t.test('a bare libcurl may ask for one byte too many', async (t) => {
  const { add, ask } = await serveImages(t)
  const ticket = await add()
  const range = { range: 'bytes=900-1000', accept: '*/*' }
  const reply = await ask(ticket, 'GET', '', { headers: range })
  t.equal(reply.status, 206)
  t.equal(reply.headers['content-range'], 'bytes 900-999/1000')
  const others = [
    { ...range, 'user-agent': 'curl/8' },
    { range: 'bytes=900-1000' },
    { ...range, range: 'bytes=900-1001' },
  ]
  for (const headers of others) t.equal((await ask(ticket, 'GET', '', { headers })).status, 416)
})

t.test('what was read is transferred, and renews the ticket', async (t) => {
  const { add, ask } = await serveImages(t)
  const ticket = await add({ ops: ['read'] })
  await ask(ticket, 'GET', '', { headers: { range: 'bytes=0-99' } })
  await ask(ticket, 'GET', '', { headers: { range: 'bytes=50-149' } })
  t.match(ticket.info(), { transferred: 150, active: false })
  t.equal(ticket.moved, 200)
})

t.test('an error before the first byte is a status, one after it a cut', async (t) => {
  const { backend, add, ask } = await serveImages(t, { size: 100_000 })
  const ticket = await add()
  let readable = 0
  const real = backend.pread.bind(backend)
  const failure = new SystemError('EIO', 5, 'pread', 'input/output error')
  backend.pread = (buffer, offset) =>
    offset >= readable ? Promise.reject(failure) : real(buffer, offset)
  const early = await ask(ticket, 'GET')
  t.equal(early.status, 500)
  t.equal(early.headers['content-disposition'], undefined)
  t.notMatch(early.text, /pread|EIO/)
  readable = 50_000
  await t.rejects(ask(ticket, 'GET'))
})

t.test('a canceled ticket cuts its downloads', async (t) => {
  const { backend, add, ask } = await serveImages(t, { size: 100_000 })
  const ticket = await add()
  const real = backend.pread.bind(backend)
  backend.pread = (buffer, offset) => {
    if (offset > 50_000) ticket.cancel()
    return real(buffer, offset)
  }
  await t.rejects(ask(ticket, 'GET'))
  t.equal(await ticket.unused(1000), true)
})

t.test('close=y ends the connection, anything else does not', async (t) => {
  const closes = (url: string): boolean => {
    const { exchange, connection } = exchangeWith({}, { url })
    noteClose(exchange)
    exchange.send(200)
    return connection.isClosing
  }
  t.equal(closes('/images/t?close=y'), true)
  for (const query of ['', '?close=n', '?close=Y', '?close', '?close=y&close=n']) {
    t.equal(closes(`/images/t${query}`), false, query)
  }
})

t.test('flush is y unless it is n', async (t) => {
  const flushes = (query: string): boolean => parseFlush(exchangeWith({}, { url: query }).exchange)
  t.equal(flushes('/'), true)
  t.equal(flushes('/?flush=y'), true)
  t.equal(flushes('/?flush=n'), false)
  for (const query of ['/?flush=', '/?flush=N', '/?flush=no']) {
    t.throws(() => flushes(query), { code: 'ERR_BAD_REQUEST' })
  }
})
