/** A directory that one run at a time may use. */
import { stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { StartError } from './start-error.js'

/**
 * Holds the directory until this process ends, however it does: the claim is the name of a socket in
 * Linux's abstract namespace, of which the kernel keeps one (unix(7)). Throws StartError when another
 * process holds it.
 */
export async function claimDirectory(dir: string): Promise<void> {
  const { dev, ino } = await stat(dir)
  const server = createServer((socket) => socket.destroy()).unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(`\0imageio-start-${dev}-${ino}`, resolve)
  }).catch((cause: unknown) => {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause
    const advice = 'end that one, or use another directory'
    throw new StartError(`${dir} is in use by another npm start: ${advice}`, { cause })
  })
}
