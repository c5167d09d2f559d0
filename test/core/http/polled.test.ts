/** What the log has of connections to a service that others look at all the time. */
import t from 'tap'
import type { Route } from '../../../core/http/routes.js'
import { request } from '../../support/http.js'
import { until } from '../../support/wait.js'
import { hello, serve } from './serving.js'

const [DEBUG, INFO] = [20, 30]

t.test(
  'a connection that only looks is logged at debug, one that changes something is not',
  async (t) => {
    const routes: Route[] = [{ path: '/tickets/:id', methods: { GET: hello, DELETE: hello } }]
    const levels = async (isPolled: boolean, method: string): Promise<unknown[]> => {
      const { target, lines } = await serve(t, routes, { isPolled })
      await request(target, method, '/tickets/a')
      const found = () => lines.filter(({ msg }) => /^connection (opened|closed)$/.test(msg))
      await until('its end', () => found().length === 2)
      return found().map((line) => (line as { level?: unknown }).level)
    }
    t.same(await levels(true, 'GET'), [DEBUG, DEBUG])
    t.same(await levels(true, 'DELETE'), [DEBUG, INFO])
    t.same(await levels(true, 'POST'), [DEBUG, INFO], 'also one that is refused')
    t.same(await levels(false, 'GET'), [INFO, INFO])
  },
)

t.test('a connection that asks nothing is not hidden', async (t) => {
  const { open, lines } = await serve(t, [], { isPolled: true })
  const wire = await open()
  wire.destroy()
  await until('its end', () => lines.some(({ msg }) => msg === 'connection closed'))
  t.match(
    lines.filter(({ msg }) => msg === 'connection closed'),
    [{ level: INFO, requests: 0 }],
  )
})
