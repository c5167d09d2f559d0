/** Waiting for changes instead of polling. */
import t, { type Test } from 'tap'
import { ManualClock } from '../manual-clock.js'
import { until } from '../../support/wait.js'
import { readTlsMaterial } from '../../../core/http/tls.js'
import { testPki } from '../../support/pki.js'
import { Wire } from '../../support/wire.js'
import { STREAM_LIMITS } from '../../../transfers/api/options.js'
import { A, BASIC, start, type Started } from './start.js'

const JSON_ONLY = { accept: 'application/json' }

async function transfer({ service, ask }: Started): Promise<string> {
  service.putDisk('d')
  const body = '<image_transfer><disk id="d"/></image_transfer>'
  const headers = { accept: 'application/json' }
  const { json } = await ask('POST', '/imagetransfers', { body, headers })
  return (json as { id: string }).id
}

async function listen(t: Test, { target }: Started, id: string): Promise<Wire> {
  const wire = await Wire.open(target)
  t.teardown(() => wire.destroy())
  await wire.send(
    `GET ${A}/imagetransfers/${id}/events HTTP/1.1\r\nHost: e\r\nAuthorization: ${BASIC}\r\nAccept: text/event-stream\r\n\r\n`,
  )
  return wire
}

const dataIn = (text: string): string[] => text.match(/(?<=^data: ).*$/gm) ?? []
const eventsIn = (wire: Wire): string[] => dataIn(wire.peek())

t.test('a client that waits hears of the change of phase', async (t) => {
  const started = await start(t)
  const { service, ask } = started
  const id = await transfer(started)
  const waiting = ask('GET', `/imagetransfers/${id}?wait=50&phase=initializing`)
  await until('it waits', () => service.watchers === 1)
  service.change(id, { transferred: 1 })
  service.begin(id)
  t.match((await waiting).text, '<phase>transferring</phase>')
  const atOnce = await ask('GET', `/imagetransfers/${id}?wait=50&phase=initializing`)
  t.match(atOnce.text, '<phase>transferring</phase>')
  const any = ask('GET', `/imagetransfers/${id}?wait=50`)
  await until('it waits', () => service.watchers === 1)
  service.change(id, { transferred: 2 })
  t.match((await any).text, '<transferred>2</transferred>')
  const gone = ask('GET', `/imagetransfers/${id}?wait=50`)
  await until('it waits', () => service.watchers === 1)
  service.forget(id)
  t.equal((await gone).status, 404)
  t.equal((await ask('GET', '/imagetransfers/none?wait=50')).status, 404)
  t.equal(service.watchers, 0)
})

t.test('waiting ends after the time asked for, and when the client leaves', async (t) => {
  const started = await start(t)
  const { service, ask, target } = started
  const id = await transfer(started)
  const { status, text } = await ask('GET', `/imagetransfers/${id}?wait=1`)
  t.equal(status, 200)
  t.match(text, '<phase>initializing</phase>')
  const wire = await Wire.open(target)
  await wire.send(
    `GET ${A}/imagetransfers/${id}?wait=50 HTTP/1.1\r\nHost: e\r\nAuthorization: ${BASIC}\r\n\r\n`,
  )
  await until('it waits', () => service.watchers === 1)
  wire.destroy()
  await until('nobody waits', () => service.watchers === 0)
})

t.test('who comes when too many wait is told so, and others are served', async (t) => {
  const streams = { ...STREAM_LIMITS, maxWaitingPerAddress: 1, maxStreamsPerAddress: 1 }
  const started = await start(t, { streams, maxConnectionsPerAddress: 3 })
  const { ask, service } = started
  const id = await transfer(started)
  const waiting = ask('GET', `/imagetransfers/${id}?wait=50`)
  await until('it waits', () => service.watchers === 1)
  const second = await ask('GET', `/imagetransfers/${id}?wait=50`)
  t.equal(second.status, 503)
  t.equal(second.headers['retry-after'], '5')
  t.match(second.text, '<detail>Too many clients wait for changes; ask without wait')
  const wire = await listen(t, started, id)
  await until('both watch', () => service.watchers === 2)
  const full = await ask('GET', `/imagetransfers/${id}/events`, { headers: JSON_ONLY })
  t.equal(full.status, 503)
  t.equal(full.headers['retry-after'], '5')
  t.match(full.json, { reason: 'Operation Failed', detail: /poll instead/ })
  await until('others are served', async () => (await ask('GET', '')).status === 200)
  service.begin(id)
  t.equal((await waiting).status, 200)
  wire.destroy()
  await until('nobody watches', () => service.watchers === 0)
  const again = ask('GET', `/imagetransfers/${id}?wait=50`)
  await until('it waits', () => service.watchers === 1)
  service.forget(id)
  t.equal((await again).status, 404)
})

t.test('places for those that wait are counted in all, too', async (t) => {
  const started = await start(t, { streams: { ...STREAM_LIMITS, maxWaiting: 0, maxStreams: 0 } })
  const id = await transfer(started)
  t.equal((await started.ask('GET', `/imagetransfers/${id}?wait=50`)).status, 503)
  const headers = { accept: 'text/event-stream' }
  const full = await started.ask('GET', `/imagetransfers/${id}/events`, { headers })
  t.equal(full.status, 503)
})

t.test('a connection too many is told so, over TLS as well', async (t) => {
  const { keyFile, certFile } = testPki()
  for (const tls of [undefined, readTlsMaterial(keyFile, certFile)]) {
    const started = await start(t, { maxConnectionsPerAddress: 1, ...(tls && { tls }) })
    const { ask, target } = started
    const first = await Wire.open(target)
    const refused = await ask('GET', '', { headers: JSON_ONLY })
    t.equal(refused.status, 503)
    t.equal(refused.headers['retry-after'], '5')
    t.match(refused.json, { reason: 'Operation Failed', detail: /^Too many connections/ })
    t.match((await ask('POST', '/disks', { body: 'x' })).text, '<fault>')
    first.destroy()
    await until('there is a place', async () => (await ask('GET', '')).status === 200)
  }
})

t.test('events tell phase, bytes, rate and the end', async (t) => {
  const clock = new ManualClock()
  const started = await start(t, { clock })
  const { service } = started
  const id = await transfer(started)
  const wire = await listen(t, started, id)
  await until('the first event', () => eventsIn(wire).length === 1)
  service.begin(id)
  clock.advance(2000)
  service.change(id, { transferred: 1_000_000, isActive: true })
  await until('three events', () => eventsIn(wire).length === 3)
  service.forget(id)
  const all = (await wire.rest()).toString()
  t.match(all, /^HTTP\/1\.1 200 .*\r\n/)
  t.match(all, /content-type: text\/event-stream\r\n/i)
  const data = [...all.matchAll(/^event: transfer\ndata: (.*)$/gm)].map(
    ([, text = '']) => JSON.parse(text) as unknown,
  )
  const size = 1_073_741_824
  t.strictSame(data, [
    { phase: 'initializing', transferred: 0, size, rate: 0, active: false },
    { phase: 'transferring', transferred: 0, size, rate: 0, active: false },
    { phase: 'transferring', transferred: 1_000_000, size, rate: 500_000, active: true },
  ])
  t.match(all, /event: end\ndata: \{\}\n\n/)
  t.equal(service.watchers, 0)
})

t.test('nothing is told twice, and what stands still has no rate', async (t) => {
  const clock = new ManualClock()
  const started = await start(t, { clock, streams: { ...STREAM_LIMITS, stillMs: 3000 } })
  const { service } = started
  const id = await transfer(started)
  service.begin(id)
  const wire = await listen(t, started, id)
  await until('it watches', () => service.watchers === 1)
  const move = (ms: number, transferred: number): void => {
    clock.advance(ms)
    service.change(id, { transferred, isActive: true })
    service.change(id, { renewalFailures: 0 }) // nobody is told of these
    service.change(id, { sessionExpires: clock.now() })
  }
  move(1000, 1000)
  move(1000, 3000)
  clock.advance(2999)
  service.change(id, { isActive: false })
  await until('the fourth event', () => eventsIn(wire).length === 4)
  clock.advance(1)
  await until('the rate falls', () => eventsIn(wire).length === 5)
  move(600_000, 9000)
  service.change(id, { phase: 'paused_user' })
  clock.advance(600_000)
  service.forget(id)
  const all = (await wire.rest()).toString()
  const told = dataIn(all)
    .slice(0, -1)
    .map((text) => {
      const { transferred, rate, active } = JSON.parse(text) as Record<string, unknown>
      return [transferred, rate, active]
    })
  t.strictSame(told, [
    [0, 0, false],
    [1000, 1000, true],
    [3000, 2000, true],
    [3000, 2000, false],
    [3000, 0, false],
    [9000, 2000, true],
    [9000, 2000, true],
    [9000, 0, true],
  ])
})

t.test('why a transfer failed is told, and nothing of what was got over', async (t) => {
  const started = await start(t)
  const { service, ask } = started
  const id = await transfer(started)
  const wire = await listen(t, started, id)
  await until('the first event', () => eventsIn(wire).length === 1)
  const message = 'the image was refused: <it> is "bad"'
  service.change(id, { phase: 'finished_failure', message })
  await until('the event', () => eventsIn(wire).length === 2)
  t.match(JSON.parse(eventsIn(wire)[1] ?? ''), { description: message })
  const { text } = await ask('GET', `/imagetransfers/${id}`)
  t.match(text, '<description>the image was refused: &lt;it&gt; is "bad"</description>')
  service.change(id, { phase: 'finished_success', message: 'nobody used the ticket for 60 s' })
  t.notMatch((await ask('GET', `/imagetransfers/${id}`)).text, 'description')
})

t.test('an idle stream shows that it lives, and ends with the server', async (t) => {
  const started = await start(t, { streams: { ...STREAM_LIMITS, heartbeatMs: 10 } })
  const id = await transfer(started)
  const wire = await listen(t, started, id)
  await until('two beats', () => wire.peek().split(': alive\n\n').length > 2)
  const waiting = started.ask('GET', `/imagetransfers/${id}?wait=50`)
  await until('both watch', () => started.service.watchers === 2)
  await started.close()
  await wire.rest()
  t.equal((await waiting).status, 200)
})

t.test('a stream has a longest time, and a client that leaves is forgotten', async (t) => {
  const started = await start(t, { streams: { ...STREAM_LIMITS, maxStreamMs: 50 } })
  const id = await transfer(started)
  await (await listen(t, started, id)).rest()
  const other = await start(t)
  const second = await transfer(other)
  const wire = await listen(t, other, second)
  await until('it watches', () => other.service.watchers === 1)
  wire.destroy()
  await until('nobody watches', () => other.service.watchers === 0)
  const { status } = await other.ask('HEAD', `/imagetransfers/${second}/events`)
  t.equal(status, 405)
})
