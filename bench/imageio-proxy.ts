/** imageio-proxy, both hops over TLS: also the one to a daemon on this host. */
import type { Front } from './front.js'
import { startProgram, type Imageio } from './imageio.js'
import type { Place } from './place.js'

/** `more` goes into its configuration, and `name` tells of it. */
export async function startImageioProxy(
  place: Place,
  daemon: Imageio,
  { name = 'imageio-proxy', more = '' } = {},
): Promise<Front> {
  const program = 'imageio-proxy'
  const proxy = await startProgram(
    place,
    program,
    `[proxy]\nallowed_daemons = ${daemon.address}\nuse_local_socket = false\n${more}`,
  )
  const publish: Front['publish'] = async (path, size, direction) => {
    const own = await proxy.install(`https://${daemon.address}${path}`, size, direction)
    return `https://${proxy.address}${own}`
  }
  return { name, pid: proxy.pid, publish }
}
