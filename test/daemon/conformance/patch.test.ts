import t from 'tap'
import { randomBytes } from 'node:crypto'
import { statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { openH2, request, requestH2, type Reply } from '../../support/http.js'

const MiB = 1024 * 1024
const GiB = 1024 * MiB

t.test('F. PATCH', async (t) => {
  const daemon = await startDaemon(t)
  const raw = ({ url }: TestImage, body: string | Buffer): Promise<Reply> =>
    request(daemon.remote, 'PATCH', url, { body })
  const patch = (image: TestImage, json: unknown): Promise<Reply> =>
    raw(image, JSON.stringify(json))

  t.test('103-104: flush answers 200 without a body, whatever else is said', async (t) => {
    const image = await daemon.addImage()
    for (const json of [{ op: 'flush' }, { op: 'flush', size: -1, offset: 'x', unknown: null }]) {
      const reply = await patch(image, json)
      t.equal(reply.status, 200)
      t.equal(reply.headers['content-length'], '0')
      t.equal(reply.text, '')
    }
  })

  t.test('105-107: zero writes zeroes to exactly this range', async (t) => {
    const size = 5 * 4096 + 77
    for (const [offset, length] of [
      [10, 20],
      [undefined, 15],
      [0, size],
      [4096, 4096],
      [4095, 2],
      [511, 4097],
      [100, 12_000],
      [size - 5, 5],
    ] as const) {
      for (const sparse of [true, false]) {
        const image = await daemon.addImage(randomBytes(size), { sparse })
        const expected = image.bytes().fill(0, offset ?? 0, (offset ?? 0) + length)
        const json = { op: 'zero', size: length, offset, future: { x: 1 } }
        const reply = await patch(image, json)
        t.equal(reply.status, 200)
        t.equal(reply.headers['content-length'], '0')
        t.ok(image.bytes().equals(expected), `${length} at ${offset}, sparse ${sparse}`)
      }
    }
  })

  t.test('108: nothing to zero is no error', async (t) => {
    const image = await daemon.addImage()
    const before = image.bytes()
    t.equal((await patch(image, { op: 'zero', size: 0 })).status, 200)
    t.equal((await patch(image, { op: 'zero', size: 0, offset: 8192 })).status, 200)
    t.same(image.bytes(), before)
  })

  t.test('109: past the ticket gives 416 and zeroes nothing', async (t) => {
    const image = await daemon.addImage()
    const before = image.bytes()
    for (const range of [
      { size: 8193 },
      { size: 1, offset: 8192 },
      { size: 0, offset: 8193 },
      { size: 8192, offset: 1 },
      { size: Number.MAX_SAFE_INTEGER, offset: Number.MAX_SAFE_INTEGER },
    ]) {
      const reply = await patch(image, { op: 'zero', ...range })
      t.equal(reply.status, 416, JSON.stringify(range))
      t.equal(reply.headers['content-range'], 'bytes */8192')
    }
    const huge = await raw(image, '{"op":"zero","size":18446744073709551616}')
    t.equal(huge.status, 416)
    t.same(image.bytes(), before)
  })

  t.test('110: wrong members give 400', async (t) => {
    const image = await daemon.addImage()
    const before = image.bytes()
    for (const members of [
      ...['{}', '{"size":-1}', '{"size":"5"}', '{"size":5.5}', '{"size":null}', '{"size":true}'],
      ...['{"size":[]}', '{"size":1,"offset":-1}', '{"size":1,"offset":"a"}'],
      ...['{"size":1,"offset":null}', '{"size":1,"offset":true}', '{"size":1,"offset":0.5}'],
      ...['{"size":1,"flush":1}', '{"size":1,"flush":null}', '{"size":1,"flush":"y"}'],
    ]) {
      const reply = await raw(image, members.replace('{', '{"op":"zero",').replace(',}', '}'))
      t.equal(reply.status, 400, members)
    }
    t.same(image.bytes(), before)
  })

  t.test('111-113: other bodies give 400', async (t) => {
    const image = await daemon.addImage()
    for (const body of [
      ...[
        '{}',
        '{"op":"trim","size":1}',
        '{"op":null}',
        '{"op":"Zero","size":1}',
        '{"op":["zero"]}',
      ],
      ...['', '{', 'zero', '{"op":"flush"', "{'op':'flush'}", '[]', '"flush"', '5', 'null', 'true'],
      ...['[{"op":"flush"}]', '{"op":"flush"} x', 'NaN'],
      Buffer.from([0x7b, 0xff, 0xfe, 0x7d]),
      Buffer.from('{"op":"flush","x":"\xff"}', 'latin1'),
    ]) {
      const reply = await raw(image, body)
      t.equal(reply.status, 400, body.toString('latin1'))
      t.match(reply.text, /^[^\n]+\n$/)
    }
    const duplicate = await raw(image, '{"op":"nothing","op":"flush"}')
    t.equal(duplicate.status, 200, 'the last of equal members counts')
  })

  t.test('114-115: the body is judged before the ticket', async (t) => {
    const unknown = { url: '/images/unknown', id: '', file: '', bytes: () => Buffer.alloc(0) }
    t.equal((await raw(unknown, 'junk')).status, 400)
    t.equal((await patch(unknown, { op: 'zero' })).status, 400)
    t.equal((await patch(unknown, { op: 'flush' })).status, 403)
    t.equal((await patch(unknown, { op: 'zero', size: 1 })).status, 403)
  })

  t.test('117: gigabytes are zeroed in steps', async (t) => {
    const file = join(daemon.dir, 'large')
    writeFileSync(file, '')
    truncateSync(file, 6 * GiB)
    const fields = { size: 6 * GiB, ops: ['write'], sparse: true }
    const image = await daemon.addTicketFor(file, fields)
    t.equal((await patch(image, { op: 'zero', size: 6 * GiB })).status, 200)
    const { transferred } = await daemon.ticket(image.id)
    t.equal(transferred, 6 * GiB)
    t.equal(statSync(file).size, 6 * GiB)
  })

  t.test('118-119: a sparse ticket gives space back, another one keeps it', async (t) => {
    const size = 4 * MiB
    for (const [sparse, from, to] of [
      [true, 0, 0],
      [false, size, size],
    ] as const) {
      const image = await daemon.addImage(randomBytes(size), { sparse })
      t.equal((await patch(image, { op: 'zero', size, flush: true })).status, 200)
      const allocated = statSync(image.file).blocks * 512
      t.ok(allocated >= from && allocated <= to + 64 * 1024, `sparse ${sparse}: ${allocated}`)
      t.ok(image.bytes().equals(Buffer.alloc(size)))
    }
    const file = join(daemon.dir, 'hole')
    writeFileSync(file, '')
    truncateSync(file, size)
    const image = await daemon.addTicketFor(file, { size })
    t.equal((await patch(image, { op: 'zero', size, flush: true })).status, 200)
    t.ok(statSync(file).blocks * 512 >= size, 'a hole is allocated')
  })

  t.test('120: past the end of the file it grows to the end of the range', async (t) => {
    for (const sparse of [true, false]) {
      const image = await daemon.addImage(Buffer.alloc(1000, 'x'), { size: 10_000, sparse })
      t.equal((await patch(image, { op: 'zero', size: 5000, offset: 999 })).status, 200)
      const expected = Buffer.alloc(5999)
      expected.fill('x', 0, 999)
      t.ok(image.bytes().equals(expected), `sparse ${sparse}: ${image.bytes().length} bytes`)
    }
  })

  t.test('105: the same over HTTP/2 and the Unix socket', async (t) => {
    const session = await openH2(daemon.remote)
    const body = '{"op":"zero","size":10,"offset":5}'
    for (const send of [
      (url: string) => requestH2(session, 'PATCH', url, { body }),
      (url: string) => request(daemon.local, 'PATCH', url, { body }),
    ]) {
      const image = await daemon.addImage(100)
      const expected = image.bytes().fill(0, 5, 15)
      t.equal((await send(image.url)).status, 200)
      t.same(image.bytes(), expected)
    }
    session.close()
  })
})
