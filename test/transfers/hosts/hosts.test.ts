/** Whether hosts are up, as the service finds out. */
import t from 'tap'
import { Hosts } from '../../../transfers/hosts/hosts.js'
import { startDaemon } from '../../support/daemon.js'
import { until } from '../../support/wait.js'
import { recordingLogger } from '../../core/http/exchanges.js'
import { hostOf } from '../engine.js'
import { ManualClock } from '../manual-clock.js'

const CHECK_MS = 10_000

t.test('a host that starts a moment later is up a moment later', async (t) => {
  const daemon = await startDaemon(t)
  await daemon.stop()
  const clock = new ManualClock()
  const { logger } = recordingLogger()
  const limits = { controlTimeoutMs: 5000, removeTimeoutMs: 5000, checkMs: CHECK_MS }
  const hosts = new Hosts({ hosts: [hostOf(daemon)], proxy: undefined, ...limits, clock, logger })
  t.teardown(() => hosts.stop())
  const isUp = (): boolean => hosts.list()[0]?.isUp === true
  await hosts.start()
  t.equal(isUp(), false)
  t.equal(clock.nextMs(), 100)
  for (const wait of [200, 400, 800, 1600, 3200, 6400, CHECK_MS, CHECK_MS]) {
    clock.advance(clock.nextMs() ?? 0)
    await until(`it is asked again in ${wait} ms`, () => clock.nextMs() === wait)
  }
  await startDaemon(t, { from: daemon })
  clock.advance(CHECK_MS)
  await until('it is up', isUp)
  t.equal(clock.nextMs(), CHECK_MS)
})
