import { validateHeaderValue } from 'node:http'
import t from 'tap'
import { contentDisposition } from '../../../daemon/images/content-disposition.js'

t.test('without a name it is an attachment all the same', async (t) => {
  t.equal(contentDisposition(undefined), 'attachment')
})

t.test('a token needs no quotes', async (t) => {
  t.equal(contentDisposition('disk-1_a.qcow2'), 'attachment; filename=disk-1_a.qcow2')
  t.equal(contentDisposition("!#$%&'*+.^`|~"), "attachment; filename=!#$%&'*+.^`|~")
})

t.test('blanks and separators are quoted, quotes and backslashes escaped', async (t) => {
  t.equal(contentDisposition('my disk.raw'), 'attachment; filename="my disk.raw"')
  t.equal(contentDisposition('a;b=c,d/e'), 'attachment; filename="a;b=c,d/e"')
  t.equal(contentDisposition('a"b\\c'), 'attachment; filename="a\\"b\\\\c"')
  t.equal(contentDisposition('"; filename=b'), 'attachment; filename="\\"; filename=b"')
})

t.test('other characters are sent in UTF-8, with a fallback for old clients', async (t) => {
  t.equal(
    contentDisposition('dïsk €.raw'),
    `attachment; filename="d_sk _.raw"; filename*=UTF-8''d%C3%AFsk%20%E2%82%AC.raw`,
  )
  t.equal(contentDisposition('😀'), `attachment; filename="_"; filename*=UTF-8''%F0%9F%98%80`)
})

t.test('what RFC 8187 reserves is percent-encoded', async (t) => {
  const value = contentDisposition(`é'()*"\\;%`)
  t.equal(
    value,
    `attachment; filename="_'()*\\"\\\\;%"; filename*=UTF-8''%C3%A9%27%28%29%2A%22%5C%3B%25`,
  )
  const extended = value.split(`UTF-8''`)[1] ?? ''
  t.match(extended, /^(%[0-9A-F]{2}|[\w!#$&+.^`|~-])+$/)
  t.equal(decodeURIComponent(extended), `é'()*"\\;%`)
})

t.test('every name makes a header field that Node sends', async (t) => {
  for (let code = 0x20; code < 0x2100; code++) {
    if (code >= 0x7f && code < 0xa0) continue // control characters never get here
    const value = contentDisposition(`a${String.fromCodePoint(code)}b`)
    validateHeaderValue('content-disposition', value)
    if (!/^[ -~]+$/.test(value)) t.fail(`not ASCII: ${value}`)
  }
})
