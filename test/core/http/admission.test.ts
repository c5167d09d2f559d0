import t from 'tap'
import { Admission } from '../../../core/http/admission.js'

t.test('one address gets no more than its share', async (t) => {
  const admission = new Admission({ maxConnections: 10, maxConnectionsPerAddress: 2 })
  const first = admission.enter('a')
  t.ok(first)
  t.ok(admission.enter('a'))
  t.equal(admission.enter('a'), undefined)
  t.ok(admission.enter('b'), 'others still do')
  first?.()
  t.ok(admission.enter('a'), 'a place given back is free')
  t.equal(admission.enter('a'), undefined)
})

t.test('all together get no more than there is', async (t) => {
  const admission = new Admission({ maxConnections: 2, maxConnectionsPerAddress: 2 })
  const leave = admission.enter('a')
  t.ok(admission.enter('b'))
  t.equal(admission.enter('c'), undefined)
  leave?.()
  t.ok(admission.enter('c'))
  t.equal(admission.enter('a'), undefined)
})

t.test('who was refused takes no place', async (t) => {
  const admission = new Admission({ maxConnections: 1, maxConnectionsPerAddress: 1 })
  const leave = admission.enter('a')
  for (let count = 0; count < 5; count++) t.equal(admission.enter('a'), undefined)
  leave?.()
  t.ok(admission.enter('a'))
})

t.test('nobody is let in where there is no place', async (t) => {
  t.equal(new Admission({ maxConnections: 0, maxConnectionsPerAddress: 1 }).enter('a'), undefined)
  t.equal(new Admission({ maxConnections: 1, maxConnectionsPerAddress: 0 }).enter('a'), undefined)
})

t.test('addresses of one IPv6 network count as one, those of IPv4 each', async (t) => {
  const admission = new Admission({ maxConnections: 10, maxConnectionsPerAddress: 1 })
  const leave = admission.enter('2001:db8::1')
  t.equal(admission.enter('2001:db8:0:0:ffff::2'), undefined)
  t.ok(admission.enter('2001:db8:0:1::1'))
  t.ok(admission.enter('::ffff:192.0.2.1'))
  t.equal(admission.enter('192.0.2.1'), undefined, 'the same host on another listener')
  t.ok(admission.enter('::ffff:192.0.2.2'))
  leave?.()
  t.ok(admission.enter('2001:db8::ffff'))
})
