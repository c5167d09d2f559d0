/** The clients and tools: other programs, run to their end. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { buffer, text } from 'node:stream/consumers'

export interface Command {
  readonly program: string
  readonly args: readonly string[]
}

/** Seconds from the first start to the last end. */
export async function timeCommands(commands: readonly Command[]): Promise<number> {
  const startedMs = performance.now()
  await Promise.all(commands.map((command) => runCommand(command)))
  return (performance.now() - startedMs) / 1000
}

/** What the program wrote. Rejects with what it complained of. */
export async function outputOf(command: Command): Promise<Buffer> {
  const child = spawn(command.program, command.args, { stdio: ['ignore', 'pipe', 'pipe'] })
  const [output, reason] = await Promise.all([
    buffer(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  check(command, child.exitCode, reason)
  return output
}

export interface OutputTimes {
  /** From the start of the program. */
  readonly firstMs: number
  readonly lastMs: number
}

/** When its output came, which is thrown away. */
export async function timeOutput(command: Command): Promise<OutputTimes> {
  const startedMs = performance.now()
  const child = spawn(command.program, command.args, { stdio: ['ignore', 'pipe', 'pipe'] })
  let firstMs = NaN
  child.stdout.once('data', () => (firstMs = performance.now() - startedMs)).resume()
  const [reason] = await Promise.all([text(child.stderr), once(child, 'close')])
  check(command, child.exitCode, reason)
  return { firstMs, lastMs: performance.now() - startedMs }
}

async function runCommand(command: Command): Promise<void> {
  const child = spawn(command.program, command.args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const [reason] = await Promise.all([text(child.stderr), once(child, 'close')])
  check(command, child.exitCode, reason)
}

function check({ program }: Command, exitCode: number | null, reason: string): void {
  if (exitCode === 0) return
  throw new Error(reason.trim() || `${program} failed (${exitCode ?? 'killed'})`)
}

export function isInstalled(program: string): boolean {
  const { error } = spawnSync(program, ['-V'], { stdio: 'ignore' })
  return error === undefined
}
