import t from 'tap'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { Wire, type Target, type WireResponse } from '../../support/wire.js'

const HOST = 'Host: localhost\r\n'

t.test('A. limits and framing', async (t) => {
  const daemon = await startDaemon(t)
  const { remote, local, control } = daemon
  const image: TestImage = await daemon.addImage()

  /** The request is refused, the connection ends, and nothing behind the request is executed. */
  async function refused(target: Target, bytes: string): Promise<WireResponse> {
    const wire = await Wire.open(target)
    const reply = await wire.ask(bytes)
    const rest = await wire.rest(5000)
    if (rest.length > 0) throw new Error(`more than one response: ${rest.toString('latin1')}`)
    return reply
  }

  /** Like refused, with an upload that must not happen. */
  async function refusedUpload(fields: string, body: string): Promise<WireResponse> {
    const before = image.bytes()
    const smuggled = `PUT ${image.url} HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nSMUGG`
    const reply = await refused(
      remote,
      `PUT ${image.url} HTTP/1.1\r\n${HOST}${fields}\r\n${body}${smuggled}`,
    )
    if (!image.bytes().equals(before)) throw new Error('the image was written')
    return reply
  }

  t.test('11: a request line of 4096 bytes is served, a longer one is not', async (t) => {
    const line = (size: number): string => {
      const rest = ' HTTP/1.1\r\n'
      return `${'GET /info/?'.padEnd(size - rest.length, 'a')}${rest}`
    }
    for (const target of [remote]) {
      const wire = await Wire.open(target)
      t.equal((await wire.ask(`${line(4096)}${HOST}\r\n`)).status, 200)
      wire.destroy()
      t.equal((await refused(target, `${line(4097)}${HOST}\r\n`)).status, 414)
      t.equal((await refused(target, `${line(20_000)}${HOST}\r\n`)).status, 414)
    }
    t.equal((await refused(control, `${line(4097)}\r\n`)).status, 414)
  })

  t.test('12: a header of more than 16 KiB gives 431', async (t) => {
    const field = (size: number): string => `X-Long: ${'x'.repeat(size)}\r\n`
    const wire = await Wire.open(remote)
    t.equal((await wire.ask(`GET /info/ HTTP/1.1\r\n${HOST}${field(12_000)}\r\n`)).status, 200)
    wire.destroy()
    for (const size of [17_000, 70_000]) {
      const reply = await refused(remote, `GET /info/ HTTP/1.1\r\n${HOST}${field(size)}\r\n`)
      t.equal(reply.status, 431, `${size} bytes`)
    }
  })

  t.test('13: more than 100 header fields give 431', async (t) => {
    const fields = (count: number): string =>
      Array.from({ length: count - 1 }, (_, index) => `X-${index}: x\r\n`).join('')
    const wire = await Wire.open(remote)
    t.equal((await wire.ask(`GET /info/ HTTP/1.1\r\n${HOST}${fields(100)}\r\n`)).status, 200)
    wire.destroy()
    const many = `GET /info/ HTTP/1.1\r\n${HOST}${fields(101)}\r\n`
    t.equal((await refused(remote, many)).status, 431)
  })

  t.test('17: other versions of HTTP are refused', async (t) => {
    t.equal((await refused(remote, `GET /info/ HTTP/2.0\r\n${HOST}\r\n`)).status, 505)
    t.equal((await refused(remote, `GET /info/ HTTP/3.0\r\n${HOST}\r\n`)).status, 505)
    t.equal((await refused(remote, 'GET /info/\r\n\r\n')).status, 400, 'HTTP/0.9')
  })

  t.test('17: a malformed request gives 400 as plain text', async (t) => {
    for (const bytes of [
      'GET\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\r\n\r\n',
      `GET /info/ HTTP/1.1\r\n${HOST}no colon here\r\n\r\n`,
      `GET /info/ HTTP/1.1\r\n${HOST}X : space\r\n\r\n`,
      `GET /in fo/ HTTP/1.1\r\n${HOST}\r\n`,
    ]) {
      const reply = await refused(local, bytes)
      t.equal(reply.status, 400, JSON.stringify(bytes))
      t.match(reply.headers, { 'content-type': /^text\/plain/, connection: /close/ })
    }
  })

  t.test('18: two Hosts give 400, on the control service, too', async (t) => {
    const twice = `${HOST}Host: other\r\n`
    t.equal((await refused(remote, `GET /info/ HTTP/1.1\r\n${twice}\r\n`)).status, 400)
    const path = `/tickets/${image.id}`
    t.equal((await refused(control, `GET ${path} HTTP/1.1\r\n${twice}\r\n`)).status, 400)
  })

  t.test('29: a Content-Length that is not one decimal number gives 400', async (t) => {
    for (const value of ['-1', 'abc', '+5', '1_0', '5, 5', '0x5', '', '5 5']) {
      const reply = await refusedUpload(`Content-Length: ${value}\r\n`, 'HELLO')
      t.equal(reply.status, 400, JSON.stringify(value))
    }
    const get = `GET ${image.url} HTTP/1.1\r\n${HOST}Content-Length: abc\r\n\r\n`
    t.equal((await refused(remote, get)).status, 400, 'on GET, too')
  })

  t.test('29: two Content-Lengths give 400, equal or not', async (t) => {
    for (const [first, second] of [
      ['5', '6'],
      ['6', '5'],
      ['5', '5'],
    ] as const) {
      const fields = `Content-Length: ${first}\r\nContent-Length: ${second}\r\n`
      t.equal((await refusedUpload(fields, 'HELLO')).status, 400, `${first} and ${second}`)
    }
  })

  t.test('30: a chunked upload is written', async (t) => {
    const target = await daemon.addImage(100)
    const wire = await Wire.open(remote)
    const fields = `${HOST}Transfer-Encoding: chunked\r\nContent-Range: bytes 10-*/*\r\n\r\n`
    const before = target.bytes()
    await wire.send(`PUT ${target.url} HTTP/1.1\r\n${fields}5\r\nhello\r\n`)
    const reply = await wire.ask('6;ext=1\r\n world\r\n0\r\nX-Trailer: x\r\n\r\n')
    t.equal(reply.status, 200)
    const expected = Buffer.concat([
      before.subarray(0, 10),
      Buffer.from('hello world'),
      before.subarray(21),
    ])
    t.same(target.bytes(), expected)
    t.equal((await wire.ask(`GET /info/ HTTP/1.1\r\n${HOST}\r\n`)).status, 200, 'still in step')
    wire.destroy()
  })

  t.test('30: a chunked upload past the ticket gives 416 and writes nothing there', async (t) => {
    const target = await daemon.addImage(Buffer.alloc(200, 'x'), { size: 100 })
    const wire = await Wire.open(remote)
    const fields = `${HOST}Transfer-Encoding: chunked\r\n\r\n`
    const body = `60\r\n${'a'.repeat(96)}\r\n60\r\n${'b'.repeat(96)}\r\n0\r\n\r\n`
    const reply = await wire.ask(`PUT ${target.url} HTTP/1.1\r\n${fields}${body}`)
    t.equal(reply.status, 416)
    t.equal(reply.headers['content-range'], 'bytes */100')
    t.equal(target.bytes().toString('latin1', 100), 'x'.repeat(100))
    t.equal(target.bytes().length, 200)
    wire.destroy()
  })

  t.test('30: a chunked upload at an offset is bounded by the ticket, too', async (t) => {
    for (const size of [3, 50, 5000]) {
      const target = await daemon.addImage(Buffer.alloc(100, 'x'))
      const wire = await Wire.open(remote)
      const fields = `${HOST}Transfer-Encoding: chunked\r\nContent-Range: bytes 98-*/*\r\n\r\n`
      const chunk = `${size.toString(16)}\r\n${'y'.repeat(size)}\r\n0\r\n\r\n`
      t.equal((await wire.ask(`PUT ${target.url} HTTP/1.1\r\n${fields}${chunk}`)).status, 416)
      t.equal(target.bytes().length, 100, 'nothing is written past the ticket')
      wire.destroy()
    }
  })

  t.test('30: broken chunks end the request and the connection', async (t) => {
    for (const chunks of [
      'zz\r\nhello\r\n0\r\n\r\n',
      '5\r\nhelloworld\r\n0\r\n\r\n',
      '-5\r\nhello\r\n',
    ]) {
      const target = await daemon.addImage(Buffer.alloc(100, 'x'))
      const fields = `${HOST}Transfer-Encoding: chunked\r\n\r\n`
      const reply = await refused(remote, `PUT ${target.url} HTTP/1.1\r\n${fields}${chunks}`)
      t.equal(reply.status, 400, JSON.stringify(chunks))
      t.notMatch(target.bytes().toString('latin1'), /world/)
    }
  })

  t.test('31: Transfer-Encoding with Content-Length gives 400', async (t) => {
    const both = 'Transfer-Encoding: chunked\r\nContent-Length: 15\r\n'
    t.equal((await refusedUpload(both, '5\r\nhello\r\n0\r\n\r\n')).status, 400)
    const other = 'Content-Length: 15\r\nTransfer-Encoding: chunked\r\n'
    t.equal((await refusedUpload(other, '5\r\nhello\r\n0\r\n\r\n')).status, 400)
  })

  t.test('31: other transfer codings are refused', async (t) => {
    for (const coding of ['gzip', 'gzip, chunked', 'chunked, chunked', 'identity', 'xchunked']) {
      const fields = `Transfer-Encoding: ${coding}\r\n`
      const { status } = await refusedUpload(fields, '5\r\nhello\r\n0\r\n\r\n')
      t.ok([400, 501].includes(status), `${coding}: ${status}`)
    }
    const old = `PUT ${image.url} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`
    t.equal((await refused(remote, old)).status, 400, 'HTTP/1.0 has none')
  })

  t.test('31: folded fields and bare line feeds give 400', async (t) => {
    t.equal((await refusedUpload('X-A: a\r\n b\r\nContent-Length: 5\r\n', 'HELLO')).status, 400)
    t.equal((await refusedUpload('X-A: a\nContent-Length: 5\r\n', 'HELLO')).status, 400)
    const bare = 'GET /info/ HTTP/1.1\nHost: localhost\n\n'
    t.equal((await refused(remote, bare)).status, 400)
    t.equal((await refusedUpload('X-A: a\0b\r\nContent-Length: 5\r\n', 'HELLO')).status, 400)
    t.equal((await refusedUpload('X-A: a\rb\r\nContent-Length: 5\r\n', 'HELLO')).status, 400)
  })

  t.test('31: the body of a GET is not the next request', async (t) => {
    const hidden = `GET /hidden HTTP/1.1\r\n${HOST}\r\n`
    for (const target of [remote, local]) {
      for (const path of [image.url, `${image.url}/extents`, '/nowhere']) {
        const wire = await Wire.open(target)
        const length = `Content-Length: ${hidden.length}\r\n`
        const next = `GET /images/unknown HTTP/1.1\r\n${HOST}\r\n`
        await wire.send(`GET ${path} HTTP/1.1\r\n${HOST}${length}\r\n${hidden}${next}`)
        const first = await wire.response()
        t.equal(first.status, path === '/nowhere' ? 404 : 200)
        const isClosed = /close/.test(first.headers['connection'] ?? '')
        if (isClosed) t.ok(await wire.isClosedSilently(), 'closed without another answer')
        else t.equal((await wire.response()).status, 403, 'the next answer is for the next request')
        wire.destroy()
      }
    }
  })

  t.test('98: an error arrives although the body is still being sent', async (t) => {
    const size = 64 * 1024 * 1024
    for (const target of [remote, local]) {
      for (const [path, status] of [
        ['/images/unknown', 403],
        [image.url, 416],
        ['/nowhere', 404],
      ] as const) {
        const wire = await Wire.open(target)
        await wire.send(`PUT ${path} HTTP/1.1\r\n${HOST}Content-Length: ${size}\r\n\r\n`)
        const piece = Buffer.alloc(1024 * 1024)
        const sending = (async () => {
          for (let sent = 0; sent < size && !wire.isEnded; sent += piece.length) {
            if (!(await wire.send(piece))) return
          }
        })()
        const reply = await wire.response()
        t.equal(reply.status, status)
        t.match(reply.headers['connection'], /close/)
        await wire.rest(5000)
        wire.destroy()
        await sending
      }
    }
  })

  t.test('112: a JSON body of more than 64 KiB gives 413', async (t) => {
    const json = `{"op":"flush","x":"${'x'.repeat(64 * 1024)}"}`
    const fields = `${HOST}Content-Length: ${json.length}\r\n\r\n`
    const patch = await refused(remote, `PATCH ${image.url} HTTP/1.1\r\n${fields}${json}`)
    t.equal(patch.status, 413)
    const put = await refused(control, `PUT /tickets/x HTTP/1.1\r\n${fields}${json}`)
    t.equal(put.status, 413)
    const chunked = `${HOST}Transfer-Encoding: chunked\r\n\r\n`
    const chunk = `${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`
    const streamed = await refused(remote, `PATCH ${image.url} HTTP/1.1\r\n${chunked}${chunk}`)
    t.equal(streamed.status, 413, 'chunked, too')
    const small = '{"op":"flush"}'.padEnd(60 * 1024)
    const wire = await Wire.open(remote)
    const length = `${HOST}Content-Length: ${small.length}\r\n\r\n`
    t.equal((await wire.ask(`PATCH ${image.url} HTTP/1.1\r\n${length}${small}`)).status, 200)
    wire.destroy()
  })
})
