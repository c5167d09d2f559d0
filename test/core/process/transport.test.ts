import { readFileSync, readdirSync } from 'node:fs'
import t from 'tap'
import { openTransport } from '../../../core/process/transport.js'
import { startDaemon, type Daemon } from '../../support/daemon.js'
import { recordingLogger } from '../http/exchanges.js'

const MISSING = 'undefined symbol: SSL_read_ex'

/** Threads of the front that this daemon has. */
function frontThreads({ pid }: Daemon): number {
  const names = readdirSync(`/proc/${pid}/task`).map((id) =>
    readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim(),
  )
  return names.filter((name) => name === 'imageio-front').length
}

t.test('the front is there by default, and can be switched off', async (t) => {
  for (const native of ['auto', 'on', 'off'] as const) {
    const daemon = await startDaemon(t, { config: { transport: { native } } })
    t.equal(frontThreads(daemon) > 0, native !== 'off', native)
  }
})

t.test('it has as many threads as it is told', async (t) => {
  const daemon = await startDaemon(t, { config: { transport: { native: 'on', threads: 3 } } })
  t.equal(frontThreads(daemon), 3)
})

t.test('the log says whether it is there, and with how many threads', (t) => {
  const { logger, lines } = recordingLogger()
  openTransport({ native: 'on', threads: 3 }, logger)?.close()
  openTransport({ native: 'auto', threads: 0 }, logger)?.close()
  openTransport({ native: 'off', threads: 3 }, logger)
  t.match(lines, [
    { level: 30, msg: 'bodies go through the native front', threads: 3 },
    { level: 30, msg: 'bodies go through the native front', threads: Number },
    { level: 30, msg: 'the native front is off: bodies go the plain way' },
  ])
  t.equal(lines.length, 3)
  t.end()
})

t.test('a front that cannot be had is done without, and the log says so once', async (t) => {
  const { logger, lines } = recordingLogger()
  t.equal(openTransport({ native: 'auto', threads: 0 }, logger, MISSING), undefined)
  t.equal(lines.length, 1)
  t.match(lines[0], { level: 40, reason: MISSING })
})

t.test('but who asks for it is told that it cannot be had', async (t) => {
  const { logger } = recordingLogger()
  t.throws(() => openTransport({ native: 'on', threads: 0 }, logger, MISSING), {
    message: new RegExp(MISSING),
  })
  t.equal(openTransport({ native: 'off', threads: 0 }, logger, MISSING), undefined)
})
