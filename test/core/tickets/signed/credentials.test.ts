import t from 'tap'
import { findToken } from '../../../../core/tickets/signed/credentials.js'

const find = (id: string, authorization?: string) =>
  findToken({ id, header: (name) => (name === 'authorization' ? authorization : undefined) })

t.test('a token is in the header, beside the transfer of the path', async (t) => {
  t.strictSame(find('x', 'Bearer a.b.c'), { token: 'a.b.c', transferId: 'x' })
  t.strictSame(find('x', 'bearer   a.b.c '), { token: 'a.b.c', transferId: 'x' })
  t.strictSame(find('a.b.c', 'Bearer d.e.f'), { token: 'd.e.f', transferId: 'a.b.c' })
  t.strictSame(find('x', 'Bearer nonsense, more'), { token: 'nonsense, more', transferId: 'x' })
})

t.test('or it is the path', async (t) => {
  t.strictSame(find('a.b.c'), { token: 'a.b.c', transferId: undefined })
  t.strictSame(find('a.b.c', 'Basic dXNlcjpwYXNz'), { token: 'a.b.c', transferId: undefined })
})

t.test('other ids and other schemes are no tokens', async (t) => {
  for (const id of ['', 'x', 'a.b', 'a.b.c.d', 'a..c', '../../c', 'a/b.c.d', '7c1d4240-9a9e']) {
    t.equal(find(id), undefined, id)
  }
  t.equal(find('x', 'Basic dXNlcjpwYXNz'), undefined)
  t.equal(find('x', 'Bearer'), undefined)
  t.equal(find('x', ''), undefined)
})
