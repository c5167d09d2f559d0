/** Runs one command; everything outside comes as an argument. */
import { readFile } from 'node:fs/promises'
import { ConfigError } from '../core/config/config-error.js'
import { KiB } from '../core/units.js'
import { parseCommandLine, UsageError, type Command } from './command-line.js'
import { clientOf } from './control-address.js'
import { ControlError, type ControlClient } from '../core/control/control-client.js'
import { runSigning } from './sign-ticket.js'
import { formatList, formatRevocations, formatTicket } from './table.js'
import { indentJson, parseTicket, parseTickets, ticketId, withRate } from './ticket-json.js'

export interface Terminal {
  readonly stdin: AsyncIterable<Uint8Array>
  readonly print: (text: string) => void
  readonly printError: (text: string) => void
}

/** The exit status. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<0 | 1 | 2> {
  try {
    if (await runSigning(argv, terminal)) return 0
    const command = parseCommandLine(argv)
    if (command.name === 'help') terminal.print(command.text)
    else terminal.print(await execute(command, clientOf(command.confDir), terminal))
    return 0
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.printError(`imageioctl: ${error.message} (see imageioctl --help)\n`)
      return 2
    }
    if (!(error instanceof ControlError) && !(error instanceof ConfigError)) throw error
    terminal.printError(`imageioctl: ${error.message}\n`)
    return 1
  }
}

type TicketCommand = Exclude<Command, { name: 'help' }>

/** What to print. */
async function execute(
  command: TicketCommand,
  client: ControlClient,
  { stdin }: Terminal,
): Promise<string> {
  switch (command.name) {
    case 'add': {
      const name = command.file === '-' ? 'standard input' : command.file
      const ticket = command.file === '-' ? await readAll(stdin) : await readTicket(command.file)
      if (ticket.length > MAX_TICKET_BYTES) throw new ControlError(`${name}: too long for a ticket`)
      const id = ticketId(ticket, name)
      await client.add(id, command.rate === undefined ? ticket : withRate(ticket, command.rate))
      return ''
    }
    case 'show': {
      const ticket = await client.get(command.id)
      return command.json ? indentJson(ticket) : formatTicket(parseTicket(ticket))
    }
    case 'list': {
      const tickets = await client.list()
      return command.json ? indentJson(tickets) : formatList(parseTickets(tickets))
    }
    case 'modify':
      await client.change(command.id, {
        timeout: command.timeout,
        max_bytes_per_second: command.rate,
      })
      return ''
    case 'delete':
      await client.remove(command.id)
      return ''
    case 'revoke':
      await client.revoke(command.id)
      return ''
    case 'unrevoke':
      await client.unrevoke(command.id)
      return ''
    case 'revocations': {
      const revocations = await client.revocations()
      return command.json ? indentJson(revocations) : formatRevocations(parseTickets(revocations))
    }
  }
}

/** What the daemon takes. */
const MAX_TICKET_BYTES = 64 * KiB

async function readTicket(file: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const reason = code === 'ENOENT' ? 'no such file' : message
    throw new ControlError(`${file}: ${reason}`, { cause })
  }
}

async function readAll(input: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of input) {
    chunks.push(chunk)
    size += chunk.length
    if (size > MAX_TICKET_BYTES) break
  }
  return Buffer.concat(chunks)
}
