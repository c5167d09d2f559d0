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

/** Who sends more than is thrown away has to wait, and can read the answer meanwhile. */
function closeSlowly(socket: Socket): void {
  let left = LINGER_BYTES
  const timer = setTimeout(() => socket.destroy(), LINGER_MS)
  socket.once('close', () => clearTimeout(timer))
  socket.end()
  // Its bytes went to the HTTP parser past JavaScript until now. The server executes nothing of them.
  socket.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) socket.pause()
  })
  socket.resume()
}
