/** What moved, as the live line counts it. */
import { createServer } from 'node:http'
import { once } from 'node:events'
import { join } from 'node:path'
import t from 'tap'
import { ControlClient } from '../../core/control/control-client.js'
import { progressOf } from '../../start/tickets.js'
import { userDir } from '../support/start.js'

t.test('what a ticket has moved still counts when it is gone', async (t) => {
  let tickets: object[] = []
  const socketPath = join(userDir(t), 's')
  const server = createServer((_request, response) => response.end(JSON.stringify(tickets)))
  server.listen(socketPath)
  await once(server, 'listening')
  t.teardown(() => server.close())
  const read = progressOf(new ControlClient({ address: { socketPath } }))
  const a = { uuid: 'a', moved: 10, connections: 1, active: true }
  const b = { uuid: 'b', moved: 5, connections: 0, active: false }
  tickets = [a, b]
  t.strictSame(await read(), { moved: 15, clients: 1, isActive: true })
  tickets = [{ ...b, moved: 6 }]
  t.strictSame(await read(), { moved: 16, clients: 0, isActive: false })
})
