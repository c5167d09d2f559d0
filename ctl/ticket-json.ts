/** Tickets as JSON text. Integers beyond 2^53 are bigint in between, so that no digit is lost. */
import { parseExactJson, toJson } from '../core/json.js'
import { ControlError } from '../core/control/control-client.js'

export type Integer = number | bigint

/** What the daemon says about a ticket; nothing is relied on but shown when it is there. */
export type TicketInfo = ReadonlyMap<string, unknown>

/** The id of a ticket in a file; `name` is for the error. */
export function ticketId(bytes: Uint8Array, name: string): string {
  const uuid = asTicket(parse(bytes, name))?.get('uuid')
  if (typeof uuid !== 'string') throw new ControlError(`${name}: not a ticket: it has no uuid`)
  if (uuid === '') throw new ControlError(`${name}: not a ticket: its uuid is empty`)
  return uuid
}

/** The same ticket with this limit. */
export function withRate(bytes: Uint8Array, bytesPerSecond: Integer): string {
  return toJson({ ...(parseExactJson(bytes) as object), max_bytes_per_second: bytesPerSecond })
}

export function parseTicket(bytes: Uint8Array): TicketInfo {
  const ticket = asTicket(parse(bytes, ANSWER))
  if (ticket === undefined) throw new ControlError(`${ANSWER}: not a ticket`)
  return ticket
}

export function parseTickets(bytes: Uint8Array): TicketInfo[] {
  const list = parse(bytes, ANSWER)
  if (!Array.isArray(list)) throw new ControlError(`${ANSWER}: not a list`)
  return list.map(asTicket).filter((ticket) => ticket !== undefined)
}

/** The same JSON, indented for people. */
export function indentJson(bytes: Uint8Array): string {
  return `${toJson(parse(bytes, ANSWER), 2)}\n`
}

export function asInteger(value: unknown): Integer | undefined {
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined
}

const ANSWER = "the daemon's answer"

function parse(bytes: Uint8Array, name: string): unknown {
  try {
    return parseExactJson(bytes)
  } catch (cause) {
    throw new ControlError(`${name}: not JSON`, { cause })
  }
}

function asTicket(value: unknown): TicketInfo | undefined {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isObject ? new Map(Object.entries(value)) : undefined
}
