/** Servers that are other programs, from their start to their end. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type NetConnectOpts } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from './command.js'

const START_TIMEOUT_MS = 10_000

export interface Server {
  readonly pid: number
  stop(): Promise<void>
}

/** Resolves when somebody listens there. */
export async function startServer(
  { program, args }: Command,
  address: NetConnectOpts,
): Promise<Server> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(child, 'close')
  // Told only if it fails: servers complain of the connection that looks whether they listen.
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-2000)))
  const fail = (): never => {
    throw new Error(`${program} does not start: ${said.trim()}`)
  }
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM')
    await ended
  }
  const isListening = await Promise.race([untilListening(address), ended.then(fail)])
  const { pid } = child
  if (isListening && pid !== undefined) return { pid, stop }
  await stop()
  return fail()
}

async function untilListening(address: NetConnectOpts): Promise<boolean> {
  const giveUpAt = performance.now() + START_TIMEOUT_MS
  while (performance.now() < giveUpAt) {
    const isListening = await new Promise<boolean>((resolve) => {
      const probe = connect(address, () => resolve(true))
      probe.on('error', () => resolve(false)).on('connect', () => probe.destroy())
    })
    if (isListening) return true
    await sleep(50)
  }
  return false
}
