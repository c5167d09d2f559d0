/** The clients: one curl per stream, all at once. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import type { Direction, Target, Transport } from './system.js'

export interface Load {
  readonly direction: Direction
  readonly transport: Transport
  readonly targets: readonly Target[]
  /** What is uploaded, and where a download goes. */
  readonly file: string
}

/** Seconds from the first start to the last end. */
export async function runLoad({ direction, transport, targets, file }: Load): Promise<number> {
  const transfer = direction === 'GET' ? ['-o', file] : ['-T', file]
  const startedMs = performance.now()
  await Promise.all(
    targets.map((target) => runCurl(['--http1.1', ...transfer, ...target.curl(transport)])),
  )
  return (performance.now() - startedMs) / 1000
}

async function runCurl(args: readonly string[]): Promise<void> {
  const child = spawn('curl', ['--silent', '--show-error', '--fail', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const [reason] = await Promise.all([text(child.stderr), once(child, 'close')])
  if (child.exitCode !== 0) throw new Error(reason.trim() || 'curl was killed')
}
