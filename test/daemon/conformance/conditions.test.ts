import t from 'tap'
import { startDaemon, type TestImage } from '../../support/daemon.js'
import { request, type Reply } from '../../support/http.js'

t.test('D. validators of a download', async (t) => {
  const daemon = await startDaemon(t)
  const get = ({ url }: TestImage, headers: Record<string, string> = {}): Promise<Reply> =>
    request(daemon.remote, 'GET', url, { headers })
  const etagOf = async (image: TestImage): Promise<string> =>
    (await get(image, { range: 'bytes=0-0' })).headers['etag'] ?? ''
  const put = ({ url }: TestImage, headers: Record<string, string> = {}): Promise<Reply> =>
    request(daemon.remote, 'PUT', url, { headers, body: 'data' })

  t.test('55: the entity tag is strong and stays while nothing is written', async (t) => {
    const image = await daemon.addImage()
    const etag = await etagOf(image)
    t.match(etag, /^"[\x21\x23-\x7e]+"$/)
    t.equal((await get(image)).headers['etag'], etag)
    t.equal((await request(daemon.local, 'HEAD', image.url)).headers['etag'], etag)
    t.not(await etagOf(await daemon.addImage()), etag, 'another image has another')
  })

  t.test('55: the entity tag changes with each write and zero, through any ticket', async (t) => {
    const image = await daemon.addImage()
    const again = await daemon.addTicketFor(image.file, { size: 8192 })
    const seen = [await etagOf(image)]
    await put(image)
    seen.push(await etagOf(image))
    const body = '{"op":"zero","size":10}'
    await request(daemon.remote, 'PATCH', image.url, { body })
    seen.push(await etagOf(image))
    await put(again)
    seen.push(await etagOf(image))
    t.equal(new Set(seen).size, 4, seen.join(' '))
    t.equal(await etagOf(again), seen[3])
  })

  t.test('58: If-Range gives the part of the same image, the whole of another', async (t) => {
    const image = await daemon.addImage()
    const range = 'bytes=10-19'
    const etag = await etagOf(image)
    const same = await get(image, { range, 'if-range': etag })
    t.equal(same.status, 206)
    t.same(same.body, image.bytes().subarray(10, 20))
    for (const other of ['"other"', `W/${etag}`, 'Mon, 23 Nov 2026 06:28:12 GMT']) {
      const reply = await get(image, { range, 'if-range': other })
      t.equal(reply.status, 200, other)
      t.same(reply.body, image.bytes())
    }
    await put(image)
    t.equal((await get(image, { range, 'if-range': etag })).status, 200, 'after a write')
  })

  t.test('58: If-Match refuses another image', async (t) => {
    const image = await daemon.addImage()
    const etag = await etagOf(image)
    for (const [value, status] of [
      [etag, 200],
      ['*', 200],
      [`"a", ${etag}`, 200],
      ['"a"', 412],
      [`W/${etag}`, 412],
    ] as const) {
      const reply = await get(image, { 'if-match': value })
      t.equal(reply.status, status, value)
    }
    const before = image.bytes()
    t.equal((await put(image, { 'if-match': '"a"' })).status, 412)
    t.same(image.bytes(), before, 'nothing is written')
    t.equal((await put(image, { 'if-match': etag })).status, 200)
    t.equal((await put(image, { 'if-match': etag })).status, 412, 'the write made it another')
  })

  t.test('55: If-None-Match spares the transfer of the same image', async (t) => {
    const image = await daemon.addImage()
    const etag = await etagOf(image)
    for (const value of [etag, '*', `"a", ${etag}`, `W/${etag}`]) {
      const reply = await get(image, { 'if-none-match': value })
      t.equal(reply.status, 304, value)
      t.equal(reply.headers['etag'], etag)
      t.equal(reply.body.length, 0)
    }
    t.equal((await get(image, { 'if-none-match': '"a"' })).status, 200)
  })

  t.test('58: what changes an image heeds If-Match and If-None-Match', async (t) => {
    const image = await daemon.addImage()
    const before = image.bytes()
    const etag = await etagOf(image)
    const patch = (body: string, headers: Record<string, string>): Promise<Reply> =>
      request(daemon.remote, 'PATCH', image.url, { headers, body })
    for (const headers of [
      { 'if-match': '"other"' },
      { 'if-none-match': '*' },
      { 'if-none-match': etag },
    ]) {
      t.equal((await put(image, headers)).status, 412)
      t.equal((await patch('{"op":"zero","size":10}', headers)).status, 412)
      t.equal((await patch('{"op":"flush"}', headers)).status, 412)
    }
    t.same(image.bytes(), before)
    t.equal((await patch('{"op":"flush"}', { 'if-match': etag })).status, 200)
    t.equal((await put(image, { 'if-none-match': '"other"' })).status, 200)
  })
})
