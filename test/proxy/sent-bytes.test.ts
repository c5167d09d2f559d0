import t from 'tap'
import { SentBytes } from '../../proxy/sent-bytes.js'

const MiB = 1024 * 1024

t.test('the last bytes count only when all is well', async (t) => {
  const counted: [number, number][] = []
  const sent = new SentBytes(100, (offset, size) => counted.push([offset, size]))
  sent.add(16 * MiB)
  t.strictSame(counted, [])
  sent.add(MiB)
  t.strictSame(counted, [[100, MiB]])
  sent.confirm()
  sent.confirm()
  t.strictSame(counted, [
    [100, MiB],
    [100 + MiB, 16 * MiB],
  ])
})
