/** Who does the work: counted by the kernel, thread by thread, so that a busy machine changes little. */
import { readFileSync, readdirSync, truncateSync } from 'node:fs'
import t, { type Test } from 'tap'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { run, without } from '../../support/tools.js'

const SIZE = 64 * 1024 * 1024
const STREAMS = 4

/** What each thread has used so far, in nanoseconds (proc(5), schedstat). */
function threadTimes({ pid }: Daemon): Map<string, number> {
  const ids = readdirSync(`/proc/${pid}/task`)
  const used = (id: string): number =>
    Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, 'latin1').split(' ')[0])
  return new Map(ids.map((id) => [id, used(id)]))
}

/** Four downloads and then four uploads; which part of that the busiest thread had. */
async function busiestShare(t: Test, threads: number): Promise<number> {
  const daemon = await startDaemon(t, { config: { transport: { native: 'on', threads } } })
  const images = await Promise.all(
    Array.from({ length: STREAMS }, () => daemon.addImage(0, { size: SIZE })),
  )
  for (const { file } of images) truncateSync(file, SIZE)
  const at = (url: string): string[] => ['-sSf', '--cacert', daemon.caFile, `${daemon.url}${url}`]
  const before = threadTimes(daemon)
  await Promise.all(images.map(({ url }) => run('curl', ['-o', '/dev/null', ...at(url)])))
  await Promise.all(images.map(({ url, file }) => run('curl', ['-T', file, ...at(url)])))
  const used = [...threadTimes(daemon)].map(([id, after]) => after - (before.get(id) ?? 0))
  return Math.max(...used) / used.reduce((sum, each) => sum + each, 0)
}

const isOff = process.env['IMAGEIO_TEST_NATIVE'] === 'off' && 'runs without the front'

t.test('no thread touches every byte', { skip: isOff || without('curl') }, async (t) => {
  const one = await busiestShare(t, 1)
  const four = await busiestShare(t, STREAMS)
  t.comment(`the busiest thread's part is ${one.toFixed(2)} of one, ${four.toFixed(2)} of four`)
  t.ok(four < one, 'more threads share more')
  t.ok(four < 0.5, 'and none has the half')
})
