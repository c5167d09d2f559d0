/** What one process at a time may use. */
import { createServer } from 'node:net'

/** Another process has it. */
export class InUseError extends Error {
  override readonly name = 'InUseError'
}

/**
 * Holds the name until it is released, or this process ends, however it does: it is that of a socket in
 * Linux's abstract namespace, of which the kernel keeps one (unix(7)), and at most 107 bytes long. Throws
 * InUseError when another process holds it.
 */
export async function claim(name: string): Promise<() => void> {
  const server = createServer((socket) => socket.destroy()).unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(`\0${name}`, resolve)
  }).catch((cause: unknown) => {
    if ((cause as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw cause
    throw new InUseError(`another process holds ${name}`, { cause })
  })
  return () => void server.close()
}
