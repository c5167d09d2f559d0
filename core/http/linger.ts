/**
 * Closing without destroying the answer. When bytes arrive on a closed socket the kernel sends a reset,
 * which also discards what the client has not read yet; a client still sending its body would never see
 * why. So the connection is closed for sending first and what comes in is thrown away for a while.
 */
import type { Socket } from 'node:net'

const LINGER_MS = 2000
const LINGER_BYTES = 1024 * 1024

/** Changes how Node closes this socket after a response, when `isWanted` says so. */
export function linger(socket: Socket, isWanted: () => boolean): void {
  const destroySoon = socket.destroySoon.bind(socket)
  socket.destroySoon = () => {
    if (!isWanted() || socket.readableEnded || socket.destroyed) destroySoon()
    else closeSlowly(socket)
  }
}

/**
 * Beyond LINGER_BYTES the client is left with its full buffers instead of being reset: who always sends
 * when something can be sent, as nginx does, looks at what it got only when nothing can.
 */
function closeSlowly(socket: Socket): void {
  let left = LINGER_BYTES
  // Node's HTTP parser, which took bytes past the stream, gets them from it with this listener. It goes on
  // consuming; the server executes nothing of it, but may resume.
  socket.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left <= 0) socket.pause()
  })
  socket.end()
  socket.resume()
  // The parser may have stopped the handle, of which the stream knows nothing: it takes itself to be
  // reading. A piece of no bytes ends that read, and it begins another.
  socket.push(Buffer.alloc(0))
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
}
