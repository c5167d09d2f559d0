import t from 'tap'
import { canonicalTarget, idOf } from '../../../core/http/target.js'

const SAME = '/images/=t1'

t.test('different spellings of one path become one', async (t) => {
  const spellings = [
    ...['/images/t1', '/images/%74%31', '/images%2Ft1', '/%69mages/t1', '//images/t1'],
    ...['http://host/images/t1', 'HTTPS://host:1/images/t1', 'http://[::1]:1//images/t1'],
    ...['/images/t1#fragment'],
  ]
  for (const spelling of spellings) t.equal(canonicalTarget(spelling), SAME, spelling)
})

t.test('paths below an image keep their rest', async (t) => {
  t.equal(canonicalTarget('/images/t1/extents'), `${SAME}/extents`)
  t.equal(canonicalTarget('/images%2Ft1%2Fextents'), `${SAME}/extents`)
  t.equal(canonicalTarget('/images/t1/checksum'), `${SAME}/checksum`)
  t.equal(canonicalTarget('/images/t1/checksum/algorithms'), `${SAME}/checksum/algorithms`)
  t.equal(canonicalTarget('/images//extents'), '/images/=/extents')
})

t.test('the query stays as it came', async (t) => {
  t.equal(canonicalTarget('/images/t1?flush=%6e&a=b?c'), `${SAME}?flush=%6e&a=b?c`)
  t.equal(canonicalTarget('/info/?/images/t1'), '/info/?/images/t1')
  t.equal(canonicalTarget('http://host?a=b'), '/?a=b')
  t.equal(canonicalTarget('/images/%?a=b'), undefined)
  t.equal(canonicalTarget('/info/?a=%'), '/info/?a=%')
})

t.test('an id may be empty and may hold anything', async (t) => {
  const ids = [
    '',
    '/',
    'a/b',
    'extentsX',
    'a?b',
    'a#b',
    'a%2Fb',
    '*',
    'ä ö',
    '..',
    '=',
    'a\nb',
    '%',
  ]
  for (const id of ids) {
    const target = canonicalTarget(`/tickets/${encodeURIComponent(id)}`) ?? ''
    const parameter = decodeURIComponent(target.slice('/tickets/'.length))
    t.equal(idOf(parameter), id, JSON.stringify(id))
    t.notOk(target.slice('/tickets/'.length).includes('/'), 'one path component')
  }
})

t.test('what only resembles a route is another path', async (t) => {
  t.equal(canonicalTarget('/images'), '/images')
  t.equal(canonicalTarget('/tickets'), '/tickets')
  t.equal(canonicalTarget('/revocations'), '/revocations')
  t.equal(canonicalTarget('/revocations/x/y'), '/revocations/=x%2Fy')
  t.equal(canonicalTarget('/Images/t1'), '/Images/t1')
  t.equal(canonicalTarget('/a/images/t1'), '/a/images/t1')
  t.equal(canonicalTarget('/images/t1/extents/'), '/images/=t1%2Fextents%2F')
  t.equal(canonicalTarget('/info/foo'), '/info/foo')
  t.equal(canonicalTarget('/tickets/t1/extents'), '/tickets/=t1%2Fextents')
})

t.test('what is no path leads nowhere', async (t) => {
  for (const target of ['*', '', 'images/t1', '?a=b', 'ftp://host/images/t1', 'host:443']) {
    t.match(canonicalTarget(target), /^\/@nowhere/, JSON.stringify(target))
  }
})

t.test('an origin without a path is the root', async (t) => {
  t.equal(canonicalTarget('http://host'), '/')
  t.equal(canonicalTarget('http://host#a'), '/')
})

t.test('what cannot be decoded has no canonical form', async (t) => {
  for (const target of ['/images/%', '/images/%zz', '/images/%ff', '/%c3']) {
    t.equal(canonicalTarget(target), undefined, target)
  }
})

t.test('other decoded paths are encoded again', async (t) => {
  t.equal(canonicalTarget('/a%20b%0d%0a'), '/a%20b%0D%0A')
})
