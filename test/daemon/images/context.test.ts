import t from 'tap'
import { Ticket } from '../../../core/tickets/ticket.js'
import type { Backend } from '../../../daemon/backends/backend.js'
import { StorageGoneError } from '../../../daemon/backends/errors.js'
import { MemoryBackend } from '../../../daemon/backends/memory.js'
import { ImageContext, type OpenImage } from '../../../daemon/images/context.js'
import { connectionWith } from '../../core/http/exchanges.js'
import { definition } from '../../core/tickets/tickets.js'

/** An opener that counts, and keeps what it opened. */
function opener(): { open: OpenImage; opened: MemoryBackend[] } {
  const opened: MemoryBackend[] = []
  const open = async (): Promise<Backend> => {
    const backend = new MemoryBackend(Buffer.alloc(10))
    opened.push(backend)
    return backend
  }
  return { open, opened }
}

const makeTicket = (): Ticket => new Ticket(definition())
const turn = (): Promise<void> => new Promise(setImmediate)

t.test('an image is opened once for a connection and a ticket', async (t) => {
  const { open, opened } = opener()
  const connection = connectionWith()
  const ticket = makeTicket()
  const contexts = [1, 2, 3].map(() => ImageContext.of(connection, ticket, open))
  const backends = await Promise.all(contexts.map((one) => one.use(async (backend) => backend)))
  t.equal(opened.length, 1)
  t.strictSame(new Set(backends), new Set(opened))
  t.equal(ticket.connections, 1)
  t.equal(connection.resources.size, 1)
})

t.test('other connections and other tickets have their own', async (t) => {
  const { open, opened } = opener()
  const [first, second] = [connectionWith(), connectionWith()]
  const [ticket, other] = [makeTicket(), makeTicket()]
  ImageContext.of(first, ticket, open)
  ImageContext.of(second, ticket, open)
  ImageContext.of(first, other, open)
  t.equal(opened.length, 3)
  t.equal(ticket.connections, 2)
  t.equal(first.resources.size, 2)
})

t.test('the result of the work is the result of use, and so is its error', async (t) => {
  const context = ImageContext.of(connectionWith(), makeTicket(), opener().open)
  t.equal(await context.use((backend) => backend.size()), 10)
  const failed = context.use(() => Promise.reject(new Error('no')))
  await t.rejects(failed, { message: 'no' })
  t.equal(await context.use((backend) => backend.size()), 10, 'it is open all the same')
})

t.test('closing waits for every user', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  const context = ImageContext.of(connection, ticket, open)
  const ends = [Promise.withResolvers<undefined>(), Promise.withResolvers<undefined>()]
  const uses = ends.map(({ promise }) => context.use(() => promise))
  const closed = context.close()
  t.equal(context.close(), closed, 'one closing for all who ask')
  ends[0]?.resolve(undefined)
  await turn()
  t.equal(opened[0]?.isClosed, false)
  t.equal(ticket.connections, 1)
  ends[1]?.resolve(undefined)
  await closed
  t.equal(opened[0]?.isClosed, true)
  t.equal(ticket.connections, 0)
  t.equal(connection.resources.size, 0)
  await Promise.all(uses)
})

t.test('closing waits for an image that is being opened', async (t) => {
  const opening = Promise.withResolvers<Backend>()
  const ticket = makeTicket()
  const context = ImageContext.of(connectionWith(), ticket, () => opening.promise)
  const used = context.use((backend) => backend.size())
  const closed = context.close()
  const backend = new MemoryBackend(Buffer.alloc(3))
  await turn()
  t.equal(ticket.connections, 1)
  opening.resolve(backend)
  t.equal(await used, 3, 'who came before still gets it')
  await closed
  t.equal(backend.isClosed, true)
  t.equal(ticket.connections, 0)
})

t.test('an image that does not open leaves nothing behind, and is tried again', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  const failing: OpenImage = () => Promise.reject(new Error('no such file'))
  const context = ImageContext.of(connection, ticket, failing)
  await t.rejects(
    context.use(async () => t.fail('must not run')),
    { message: 'no such file' },
  )
  await turn()
  t.equal(ticket.connections, 0)
  t.equal(connection.resources.size, 0)
  await ImageContext.of(connection, ticket, open).use(async () => undefined)
  t.equal(opened.length, 1)
})

t.test('nobody has to wait for an image that does not open', async (t) => {
  ImageContext.of(connectionWith(), makeTicket(), () => Promise.reject(new Error('no such file')))
  await turn()
  t.pass('no unhandled rejection')
})

t.test('who comes while it closes gets a new one', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  const end = Promise.withResolvers<undefined>()
  const old = ImageContext.of(connection, ticket, open)
  const used = old.use(() => end.promise)
  const closed = old.close()
  const next = ImageContext.of(connection, ticket, open)
  t.not(next, old)
  end.resolve(undefined)
  await Promise.all([used, closed])
  t.equal(opened.length, 2)
  t.equal(opened[1]?.isClosed, false)
  t.equal(connection.resources.get(ticket), next, 'the old one takes only itself away')
  t.equal(ticket.connections, 1)
})

t.test('closing that failed is tried again', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  const context = ImageContext.of(connection, ticket, open)
  await context.use(async () => undefined)
  let calls = 0
  opened[0]!.close = async () => {
    if (++calls === 1) throw new Error('device is gone')
  }
  await t.rejects(context.close(), { message: 'device is gone' })
  t.equal(ticket.connections, 1, 'nobody may believe it closed')
  t.equal(connection.resources.get(ticket), context)
  await context.close()
  t.equal(ticket.connections, 0)
  t.equal(connection.resources.size, 0)
  await context.close()
  t.equal(calls, 2, 'closed is closed')
})

t.test('after the storage was gone the next request opens again', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  const context = ImageContext.of(connection, ticket, open)
  const gone = new StorageGoneError({ cause: new Error('EIO') })
  await t.rejects(
    context.use(() => Promise.reject(gone)),
    gone,
  )
  await ImageContext.of(connection, ticket, open).use(async () => undefined)
  t.equal(opened.length, 2)
  t.strictSame(
    opened.map(({ isClosed }) => isClosed),
    [true, false],
  )
})

t.test('an image whose storage went away while nobody used it is opened anew', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  await ImageContext.of(connection, ticket, open).use(async () => undefined)
  if (opened[0] !== undefined) opened[0].isGone = true
  await ImageContext.of(connection, ticket, open).use(async () => undefined)
  await turn()
  t.strictSame(
    opened.map(({ isClosed }) => isClosed),
    [true, false],
  )
  t.equal(ticket.connections, 1)
})

t.test('whatever the error, an image that is gone is not used again', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  const failed = ImageContext.of(connection, ticket, open).use(async () => {
    if (opened[0] !== undefined) opened[0].isGone = true
    throw new Error('it makes no sense')
  })
  await t.rejects(failed, { message: 'it makes no sense' })
  await ImageContext.of(connection, ticket, open).use(async () => undefined)
  t.equal(opened.length, 2)
})

t.test('a canceled ticket and a connection that has gone open nothing', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  await connection.closed()
  t.throws(() => ImageContext.of(connection, ticket, open), { code: 'ERR_CLIENT_GONE' })
  ticket.cancel()
  const canceled = { code: 'ERR_TICKET_CANCELED' }
  t.throws(() => ImageContext.of(connectionWith(), ticket, open), canceled)
  t.equal(opened.length, 0)
  t.equal(ticket.connections, 0)
})

t.test('the image closes with the connection', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  ImageContext.of(connection, ticket, open)
  await connection.closed()
  t.equal(opened[0]?.isClosed, true)
  t.equal(ticket.connections, 0)
})

t.test('the image closes with the ticket, and the connection stays', async (t) => {
  const { open, opened } = opener()
  const ticket = makeTicket()
  const connection = connectionWith()
  ImageContext.of(connection, ticket, open)
  ticket.cancel()
  await ticket.release()
  t.equal(opened[0]?.isClosed, true)
  t.equal(connection.resources.size, 0)
  t.equal(connection.gone.aborted, false)
})

t.test('opening makes the ticket’s inactivity timeout count', async (t) => {
  const connection = connectionWith(0)
  t.equal(connection.isIdleTooLong, true)
  ImageContext.of(connection, makeTicket(), opener().open)
  t.equal(connection.isIdleTooLong, false)
})
