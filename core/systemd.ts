/** The service manager's notification protocol. Without NOTIFY_SOCKET nothing is sent. */
import { sendDatagram } from '../native/index.js'

export type NotifyState = 'READY=1' | 'STOPPING=1' | 'WATCHDOG=1' | `STATUS=${string}`
export type Environment = Readonly<Record<string, string | undefined>>
export type SendDatagram = (path: string, message: string) => void

/** True when sent, false when there is nobody to tell. */
export function notify(
  state: NotifyState,
  env: Environment = process.env,
  send: SendDatagram = sendDatagram,
): boolean {
  const path = env['NOTIFY_SOCKET']
  if (!path) return false
  send(path, state)
  return true
}

/** Every service listens. */
export function ready(env?: Environment, send?: SendDatagram): boolean {
  return notify('READY=1', env, send)
}

/** The daemon has begun to stop. */
export function stopping(env?: Environment, send?: SendDatagram): boolean {
  return notify('STOPPING=1', env, send)
}

/**
 * Shows twice per watchdog period that the event loop still turns, when the manager asked this
 * process for it. Returns the function that ends it.
 */
export function watchdog(env: Environment = process.env, send?: SendDatagram): () => void {
  const periodMs = Number(env['WATCHDOG_USEC'] ?? 0) / 1000
  const pid = env['WATCHDOG_PID']
  const isForUs = pid === undefined || Number(pid) === process.pid
  if (!env['NOTIFY_SOCKET'] || !isForUs || !(periodMs > 0)) return () => undefined
  const beat = (): void => {
    try {
      notify('WATCHDOG=1', env, send)
    } catch {
      // A full queue at the manager; the next beat is in time.
    }
  }
  beat()
  const timer = setInterval(beat, Math.max(1, periodMs / 2)).unref()
  return () => clearInterval(timer)
}
