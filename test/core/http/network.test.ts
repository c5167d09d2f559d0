import t from 'tap'
import { networkOf } from '../../../core/http/network.js'

t.test('an IPv6 address is known by its network, in whatever way it is written', async (t) => {
  for (const [address, network] of [
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8:0:0:1:2:3:4', '2001:db8:0:0::/64'],
    ['2001:0DB8::', '2001:db8:0:0::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['1::2:3:4:5:6:7', '1:0:2:3::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['192.0.2.1', '192.0.2.1'],
    ['', ''],
    ['a socket', 'a socket'],
  ] as const) {
    t.equal(networkOf(address), network, address)
  }
})
