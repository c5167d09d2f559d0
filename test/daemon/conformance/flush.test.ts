import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { request } from '../../support/http.js'
import { skipWithoutStrace, watchSyncs } from '../../support/strace.js'

t.test(
  '90-91, 116: what is flushed is flushed before the answer',
  { skip: skipWithoutStrace },
  async (t) => {
    const daemon = await startDaemon(t)
    const image = await daemon.addImage()
    const syncs = await watchSyncs(t, daemon)
    for (const [method, query, body, isFlushed] of [
      ['PUT', '', 'data', true],
      ['PUT', '?flush=y', 'data', true],
      ['PUT', '?flush=y', '', true],
      ['PUT', '?flush=n', 'data', false],
      ['PATCH', '', '{"op":"flush"}', true],
      ['PATCH', '', '{"op":"zero","size":5000}', false],
      ['PATCH', '', '{"op":"zero","size":5000,"flush":false}', false],
      ['PATCH', '', '{"op":"zero","size":5000,"flush":true}', true],
    ] as const) {
      const before = syncs()
      t.equal((await request(daemon.remote, method, image.url + query, { body })).status, 200)
      t.equal(syncs() > before, isFlushed, `${method} ${query} ${body}`)
    }
  },
)
