import { once } from 'node:events'
import http from 'node:http'
import net, { type AddressInfo, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { MiB } from '../../core/units.js'
import { Transport } from '../../native/transport.js'
import { createAgent, createFrontAgent } from '../../proxy/agents.js'
import { DaemonRequest } from '../../proxy/daemon-request.js'

/** More than two kernels hold of a connection. */
const CHUNK = Buffer.alloc(64 * MiB)
const REFUSAL = 'HTTP/1.1 507 Full\r\nContent-Length: 5\r\n\r\nfull\n'

interface Stalled {
  readonly request: DaemonRequest
  readonly socket: Socket
  /** The write of CHUNK. */
  readonly writing: Promise<void>
}

/** An upload to a daemon that reads its head and nothing more. */
async function stalled(t: Test, agent: http.Agent, headers: object): Promise<Stalled> {
  const server = net.createServer({ pauseOnConnect: true })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const giveUp = new AbortController()
  const { port } = server.address() as AddressInfo
  const at = { host: '127.0.0.1', port, method: 'PUT', agent, givenUp: giveUp.signal }
  const sent = http.request({ ...at, headers: { ...headers } })
  const request = new DaemonRequest(sent, {
    deadlines: { connectMs: 5000, silenceMs: 5000, answerMs: 5000 },
    takesWithheld: false,
    giveUp,
  })
  const connecting = once(server, 'connection') as Promise<[Socket]>
  await request.connected()
  const [socket] = await connecting
  socket.on('error', () => undefined)
  t.teardown(() => {
    agent.destroy()
    socket.destroy()
    server.close()
  })
  const writing = request.write(CHUNK)
  writing.catch(() => undefined)
  return { request, socket, writing }
}

const WITH_LENGTH = { 'content-length': 2 * CHUNK.length }
const CHUNKED = { 'transfer-encoding': 'chunked' }

for (const [name, headers] of [
  ['with a length', WITH_LENGTH],
  ['chunked', CHUNKED],
] as const) {
  for (const way of ['Node', 'the front']) {
    const agentOf = (t: Test): http.Agent => {
      if (way === 'Node') return createAgent(undefined)
      const transport = new Transport(2)
      t.teardown(() => transport.close())
      return createFrontAgent(transport)
    }

    t.test(
      `a write that an answer ends uses its memory until then, ${name}, by ${way}`,
      async (t) => {
        const { request, socket, writing } = await stalled(t, agentOf(t), headers)
        socket.write(REFUSAL)
        await t.rejects(writing, { message: 'the daemon has answered' })
        let isUnused = false
        const unused = request.whenUnused.then(() => (isUnused = true))
        const { status, body } = await request.answer
        t.equal(status, 507)
        t.equal(await body.read(Buffer.alloc(5)), 5)
        t.equal(isUnused, false, 'the daemon may still take from it')
        body.release()
        await unused
      },
    )

    t.test(`one that is canceled gives it back, ${name}, by ${way}`, async (t) => {
      const { request, writing } = await stalled(t, agentOf(t), headers)
      request.cancel(new Error('canceled'))
      await t.rejects(writing)
      await request.whenUnused
      await t.rejects(request.answer, { message: 'canceled' })
    })

    t.test(`so does one whose daemon has gone, ${name}, by ${way}`, async (t) => {
      const { request, socket, writing } = await stalled(t, agentOf(t), headers)
      socket.resetAndDestroy()
      await t.rejects(writing)
      await request.whenUnused
      await t.rejects(request.answer, { code: 'ERR_DAEMON_GONE' })
    })
  }
}
