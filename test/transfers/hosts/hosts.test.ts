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

t.test('a host that is down from the start is told once, and each change', async (t) => {
  const daemon = await startDaemon(t)
  const { logger, lines } = recordingLogger()
  const clock = new ManualClock()
  const host = (id: string, path: string) => ({
    ...{ id, name: `name of ${id}`, address: id, hardwareId: undefined },
    ...{ control: { socketPath: path }, transferUrl: 'https://h', hasNbdServers: true },
  })
  const hosts = new Hosts({
    hosts: [host('up', daemon.controlSocket), host('down', '/nonexistent/sock')],
    proxy: undefined,
    ...{ controlTimeoutMs: 10_000, removeTimeoutMs: 10_000, checkMs: 10_000, clock },
    logger,
  })
  t.teardown(() => hosts.stop())
  await hosts.start()
  const find = (id: string) => lines.filter((line) => 'host' in line && line['host'] === id)
  t.match(find('up'), [{ level: 30, name: 'name of up', msg: 'host is up' }])
  const reason =
    /^cannot talk to the daemon at \/nonexistent\/sock: no such socket; is it running\?$/
  t.match(find('down'), [{ level: 40, reason, msg: 'host is down' }])
  await daemon.stop()
  clock.advance(10_000)
  await until('the other one is down', () => find('up').length > 1)
  t.match(find('up').slice(1), [{ level: 40, msg: 'host is down' }])
  const before = hosts.list()
  t.match(before, [{ isUp: false }, { isUp: false }])
  t.equal(find('down').length, 1, 'not again while nothing changes')
})
