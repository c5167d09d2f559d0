import { join } from 'node:path'
import t, { type Test } from 'tap'
import { revocationRoutes } from '../../../../core/tickets/signed/revocation-routes.js'
import { Revocations } from '../../../../core/tickets/signed/revocations.js'
import { ticketRoutes } from '../../../../core/tickets/routes.js'
import { TicketStore } from '../../../../core/tickets/store.js'
import { request, type Reply } from '../../../support/http.js'
import { recordingLogger } from '../../http/exchanges.js'
import { serve } from '../../http/serving.js'
import { definition } from '../tickets.js'
import { keyDirectory } from './tokens.js'

async function control(
  t: Test,
  { removeTimeout = 1, file }: { removeTimeout?: number; file?: string } = {},
) {
  const { logger } = recordingLogger()
  const store = new TicketStore({ expiredGrace: 60, logger })
  t.teardown(() => store.close())
  const now = (): number => 1000.5
  const revocations = await Revocations.open({ file, keptFor: 100, logger, now })
  const normalizeUrl = (url: string): string => url
  const routes = [
    ...revocationRoutes({ revocations, store, removeTimeout, now }),
    ...ticketRoutes({
      ...{ store, removeTimeout, inactivityTimeout: 60, normalizeUrl },
      revoke: (transferId) => revocations.add(transferId),
    }),
  ]
  const { target } = await serve(t, routes, { requireHost: false })
  const ask = (method: string, path: string, body?: unknown): Promise<Reply> => {
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    return request(target, method, path, body === undefined ? {} : { body: text })
  }
  const admit = (transferId: string, id = `${transferId}-signed`) =>
    store.admitSigned(definition({ id, transferId }), 10)
  return { store, revocations, ask, admit }
}

t.test('a transfer is revoked, listed and accepted again', async (t) => {
  const { ask } = await control(t)
  t.strictSame((await ask('GET', '/revocations')).json, [])
  const put = await ask('PUT', '/revocations/backup-17')
  t.equal(put.status, 200)
  t.equal(put.text, '')
  t.strictSame((await ask('GET', '/revocations')).json, [
    { transfer_id: 'backup-17', revoked: 1000, until: 1101 },
  ])
  t.equal((await ask('DELETE', '/revocations/backup-17')).status, 204)
  t.equal((await ask('DELETE', '/revocations/backup-17')).status, 204, 'what is not there')
  t.strictSame((await ask('GET', '/revocations')).json, [])
})

t.test('until is kept, and anything else is refused', async (t) => {
  const { ask, revocations } = await control(t)
  t.equal((await ask('PUT', '/revocations/a', { until: 5000 })).status, 200)
  t.match((await ask('GET', '/revocations')).json, [{ transfer_id: 'a', until: 5000 }])
  t.equal((await ask('PUT', '/revocations/b', {})).status, 200)
  for (const body of [
    '[]',
    'null',
    '7',
    '{',
    '{"until": "5000"}',
    '{"until": 1000}',
    '{"until": 1e300}',
    '{"until": 5000.5}',
    '{"until": null}',
  ]) {
    t.equal((await ask('PUT', '/revocations/c', body)).status, 400, body)
  }
  t.notOk(revocations.has('c'))
})

t.test('only a transfer id that a token may have is one', async (t) => {
  const { ask } = await control(t)
  for (const path of ['', '*', 'a%2Fb', 'a/b', '-a', '%C3%A9', 'x'.repeat(129)]) {
    t.equal((await ask('PUT', `/revocations/${path}`)).status, 400, path)
    t.equal((await ask('DELETE', `/revocations/${path}`)).status, 400, path)
  }
  t.equal((await ask('GET', '/revocations/a')).status, 405)
  t.equal((await ask('PUT', '/revocations')).status, 405)
})

t.test('all signed tickets of the transfer end, and no installed one', async (t) => {
  const { ask, admit, store } = await control(t)
  const [one, two, other] = [admit('a', '1'), admit('a', '2'), admit('b')]
  await store.add(definition({ id: 'installed', transferId: 'a' }), 0)
  const use = one.begin('operation')
  use.signal.addEventListener('abort', () => use.end())
  t.equal((await ask('PUT', '/revocations/a')).status, 200)
  t.strictSame(
    [one, two, other].map(({ isCanceled }) => isCanceled),
    [true, true, false],
  )
  t.strictSame(
    store.list().map(({ definition }) => definition.id),
    ['b-signed', 'installed'],
  )
})

t.test('what does not end in time is 409, and revoked all the same', async (t) => {
  const { ask, admit, revocations } = await control(t, { removeTimeout: 1 })
  const ticket = admit('a')
  const use = ticket.begin('operation')
  t.equal((await ask('PUT', '/revocations/a')).status, 409)
  t.ok(revocations.has('a'))
  t.ok(ticket.isCanceled)
  use.end()
  t.equal((await ask('PUT', '/revocations/a')).status, 200)
})

t.test('what cannot be saved is 500, and what runs ends all the same', async (t) => {
  const { ask, admit } = await control(t, { file: join(keyDirectory(t), 'missing', 'file') })
  const ticket = admit('a')
  t.equal((await ask('PUT', '/revocations/a')).status, 500)
  t.ok(ticket.isCanceled)
})

t.test('deleting one whose revocation cannot be saved is 500, and it is gone', async (t) => {
  const { ask, admit, store, revocations } = await control(t, {
    file: join(keyDirectory(t), 'missing', 'file'),
  })
  admit('a')
  t.equal((await ask('DELETE', '/tickets/a-signed')).status, 500)
  t.ok(revocations.has('a'))
  t.strictSame(store.list(), [])
})

t.test('deleting a signed ticket revokes its transfer', async (t) => {
  const { ask, admit, revocations, store } = await control(t)
  admit('a')
  admit('b')
  admit('c')
  await store.add(definition({ id: 'installed', transferId: 'd' }), 0)
  t.equal((await ask('DELETE', '/tickets/a-signed')).status, 204)
  t.ok(revocations.has('a'))
  t.notOk(revocations.has('b'))
  t.equal((await ask('DELETE', '/tickets/')).status, 204)
  t.ok(revocations.has('b') && revocations.has('c'))
  t.notOk(revocations.has('d'))
})

t.test('signed tickets are in the list with their ids, and are not extended', async (t) => {
  const { ask, admit } = await control(t)
  admit('a')
  t.match((await ask('GET', '/tickets')).json, [
    { uuid: 'a-signed', signed: true, transfer_id: 'a' },
  ])
  t.match((await ask('GET', '/tickets/a-signed')).json, { signed: true })
  t.equal((await ask('PATCH', '/tickets/a-signed', { timeout: 9999 })).status, 400)
})
