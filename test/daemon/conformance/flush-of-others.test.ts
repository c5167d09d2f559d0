import t from 'tap'
import { startDaemon } from '../../support/daemon.js'
import { failSyncs, skipWithoutStrace } from '../../support/strace.js'
import { request } from '../../support/http.js'

t.test(
  'a failed flush is told every ticket whose writes it may have been for',
  { skip: skipWithoutStrace },
  async (t) => {
    const daemon = await startDaemon(t)
    const stable = await daemon.addImage()
    const written = await daemon.addTicketFor(stable.file, {})
    const flushing = await daemon.addTicketFor(stable.file, {})
    type Image = typeof stable
    // On a connection of its own: nobody has the image open between the requests.
    const ask = async ({ id, url }: Image, method: string, query: string, body: string) => {
      const { status } = await request(daemon.remote, method, url + query, { body })
      await daemon.ticketWhen(id, 'the image is closed', (info) => info.connections === 0)
      return status
    }
    const put = (image: Image, flush: 'y' | 'n') => ask(image, 'PUT', `?flush=${flush}`, 'data')
    const flush = (image: Image) => ask(image, 'PATCH', '', '{"op":"flush"}')

    t.equal(await put(stable, 'y'), 200)
    t.equal(await put(written, 'n'), 200)
    const stop = await failSyncs(t, daemon)
    t.equal(await flush(flushing), 500, 'the one that asked')
    await stop()
    t.equal(await flush(flushing), 500, 'and asks again')
    t.equal(await flush(written), 500, 'the one that has written and gone')
    t.equal(await put(written, 'y'), 500)
    t.equal(await flush(stable), 200, 'the one whose writes were stable before')
    const fresh = await daemon.addTicketFor(stable.file, {})
    t.equal(await put(fresh, 'y'), 200, 'one that starts over')
  },
)
