/** Tickets for people: `list` as a table, `show` as lines of name and value. */
import { toJson } from '../core/json.js'
import { shortId } from '../core/log.js'
import { asInteger, type Integer, type TicketInfo } from './ticket-json.js'

interface Column {
  readonly title: string
  readonly isNumber?: boolean
  readonly text: (ticket: TicketInfo) => string
}

const COLUMNS: readonly Column[] = [
  { title: 'ID', text: (ticket) => plain(ticket.get('uuid')) },
  { title: 'TRANSFER', text: (ticket) => plain(ticket.get('transfer_id')) },
  { title: 'OPS', text: (ticket) => plain(ticket.get('ops')) },
  { title: 'SIZE', isNumber: true, text: (ticket) => bytes(ticket.get('size')) },
  { title: 'MOVED', isNumber: true, text: (ticket) => bytes(ticket.get('transferred')) },
  { title: 'STATE', text: state },
  { title: 'CLIENTS', isNumber: true, text: (ticket) => plain(ticket.get('connections')) },
  { title: 'IDLE', isNumber: true, text: (ticket) => seconds(ticket.get('idle_time')) },
  { title: 'LEFT', isNumber: true, text: (ticket) => seconds(ticket.get('seconds_left')) },
]

const REVOCATION_COLUMNS: readonly Column[] = [
  { title: 'TRANSFER', text: (revocation) => plain(revocation.get('transfer_id')) },
  { title: 'REVOKED', text: (revocation) => time(revocation.get('revoked')) },
  { title: 'UNTIL', text: (revocation) => time(revocation.get('until')) },
]

/** Header and one line per ticket. */
export function formatList(tickets: readonly TicketInfo[]): string {
  return formatTable(tickets, COLUMNS)
}

export function formatRevocations(revocations: readonly TicketInfo[]): string {
  return formatTable(revocations, REVOCATION_COLUMNS)
}

function formatTable(rows: readonly TicketInfo[], columns: readonly Column[]): string {
  const cells = rows.map((row) => columns.map(({ text }) => text(row)))
  const lines = [columns.map(({ title }) => title), ...cells]
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => width(line[index]))))
  return lines
    .map((line) => line.map((cell, index) => pad(cell, widths[index], columns[index])).join('  '))
    .map((line) => `${line.trimEnd()}\n`)
    .join('')
}

/** One ticket. What is secret only --json prints in full. */
export function formatTicket(ticket: TicketInfo): string {
  const size = ticket.get('size')
  const moved = ticket.get('transferred')
  const lines: [string, string][] = [
    ['id', publicId(ticket)],
    ['transfer', plain(ticket.get('transfer_id'))],
    ['state', state(ticket)],
    ['url', publicUrl(plain(ticket.get('url')))],
    ['file name', plain(ticket.get('filename'))],
    ['ops', plain(ticket.get('ops'))],
    ['size', exactBytes(size)],
    ['moved', exactBytes(moved) + percent(moved, size)],
    ['inspected', exactBytes(ticket.get('inspected'))],
    ['limit', rate(ticket.get('max_bytes_per_second'))],
    ['sparse', plain(ticket.get('sparse'))],
    ['signed', plain(ticket.get('signed'))],
    ['dirty', plain(ticket.get('dirty'))],
    ['clients', plain(ticket.get('connections'))],
    ['idle', seconds(ticket.get('idle_time'))],
    ['left', seconds(ticket.get('seconds_left'))],
    ['timeout', seconds(ticket.get('timeout'))],
    ['inactivity', seconds(ticket.get('inactivity_timeout'))],
  ]
  return lines
    .filter(([, value]) => value !== NONE)
    .map(([name, value]) => `${name.padEnd(12)}${value}\n`)
    .join('')
}

/** The id is the credential, except that of a signed ticket, to which nothing is given without a token. */
function publicId(ticket: TicketInfo): string {
  const id = plain(ticket.get('uuid'))
  return ticket.get('signed') === true ? id : shortId(id)
}

/** At a proxy the URL is the daemon's, and has the ticket there: the same id, or a token. */
function publicUrl(url: string): string {
  const [, place, secret = ''] = /^(https?:\/\/[^/]*\/(?:images\/)?)(.*)$/i.exec(url) ?? []
  return place === undefined ? url : place + shortId(secret)
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'] as const

/** Three digits are enough to compare: 1.25 GiB, 64 MiB, 700 B. */
export function humanBytes(size: Integer): string {
  let value = Number(size)
  let unit = 0
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2
  return `${Number(value.toFixed(digits))} ${UNITS[unit] ?? ''}`
}

const NONE = '-'

/** Any value in one cell; a terminal must not obey what a ticket says. */
function plain(value: unknown): string {
  if (value === undefined || value === null) return NONE
  if (Array.isArray(value)) return value.length > 0 ? value.map(plain).join(',') : NONE
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  const text = typeof value === 'string' ? value : toJson(value)
  return text.replace(/[\p{Cc}\p{Cf}]/gu, '?') || NONE
}

function state(ticket: TicketInfo): string {
  if (ticket.get('canceled') === true) return 'canceled'
  if (ticket.get('broken') === true) return 'broken'
  if (ticket.get('active') === true) return 'active'
  return ticket.get('seconds_left') === 0 ? 'expired' : 'idle'
}

function bytes(value: unknown): string {
  const size = asInteger(value)
  return size === undefined ? NONE : humanBytes(size)
}

function exactBytes(value: unknown): string {
  const size = asInteger(value)
  return size === undefined ? NONE : `${humanBytes(size)} (${size} bytes)`
}

function rate(value: unknown): string {
  const size = asInteger(value)
  return size === undefined ? NONE : `${humanBytes(size)}/s (${size} bytes)`
}

function percent(part: unknown, whole: unknown): string {
  const [moved, size] = [asInteger(part), asInteger(whole)]
  if (moved === undefined || size === undefined || Number(size) === 0) return ''
  return `, ${Math.floor((Number(moved) / Number(size)) * 100)} %`
}

function seconds(value: unknown): string {
  return asInteger(value) === undefined ? NONE : `${plain(value)} s`
}

/** Seconds since 1970. */
function time(value: unknown): string {
  const date = new Date(Number(asInteger(value)) * 1000)
  return Number.isNaN(date.getTime()) ? NONE : date.toISOString().replace('.000', '')
}

function width(text = ''): number {
  return Array.from(text).length
}

function pad(text: string, size = 0, column?: Column): string {
  const space = ' '.repeat(Math.max(0, size - width(text)))
  return column?.isNumber ? space + text : text + space
}
