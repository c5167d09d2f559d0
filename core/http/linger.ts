/**
 * Closing without destroying the answer. When bytes arrive on a closed socket the kernel sends a reset,
 * which also discards what the client has not read yet; a client still sending its body would never see
 * why. So the connection is closed for sending first and what comes in is thrown away for a while.
 */
import type { Socket } from 'node:net'

const LINGER_MS = 2000
const LINGER_BYTES = 1024 * 1024
const LOOK_MS = 100

/** Changes how Node closes this socket after a response, when `isWanted` says so. */
export function linger(socket: Socket, isWanted: () => boolean): void {
  const destroySoon = socket.destroySoon.bind(socket)
  socket.destroySoon = () => {
    if (!isWanted() || socket.readableEnded || socket.destroyed) destroySoon()
    else closeSlowly(socket)
  }
}

function closeSlowly(socket: Socket): void {
  const until = performance.now() + LINGER_MS
  const upTo = socket.bytesRead + LINGER_BYTES
  socket.end()
  // The HTTP parser goes on consuming; the server executes nothing of it.
  socket.resume()
  const timer = setInterval(() => {
    if (performance.now() < until && socket.bytesRead < upTo) return
    socket.destroy()
  }, LOOK_MS)
  socket.once('close', () => clearInterval(timer))
}
