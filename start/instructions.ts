/** What is printed once images are served: where they are, and lines to paste. */
import { basename } from 'node:path'
import { humanBytes } from '../ctl/table.js'
import { shellLine } from './shell.js'
import type { ServedImage } from './tickets.js'

export interface Place {
  /** Of the service: https://127.0.0.1:54322 */
  readonly origin: string
  readonly caFile: string
  readonly dataSocket: string
  readonly confDir: string
  /** The program imageioctl. */
  readonly imageioctl: string
  /** Whether others than this machine can connect. */
  readonly isPublic: boolean
}

/** Printable: paths may hold anything, and a terminal might obey it. */
export function instructions(place: Place, images: readonly ServedImage[]): string {
  const shown = images.map((image) => imageInstructions(place, image)).join('\n')
  const warning = place.isPublic
    ? '\nOther machines can connect. Whoever knows a URL has access to its image.\n'
    : ''
  return `${shown}
All tickets:  ${shellLine(place.imageioctl, '-c', place.confDir, 'list')}
${warning}
Stop with Ctrl-C.

`
}

function imageInstructions(place: Place, image: ServedImage): string {
  const { origin, caFile, dataSocket } = place
  const url = `${origin}/images/${image.ticketId}`
  const curl = (...words: string[]): string => shellLine('curl', '--cacert', caFile, ...words)
  const copy = `${basename(image.path)}.copy`
  const patch = (json: object): string =>
    curl('-X', 'PATCH', '-H', 'Content-Type: application/json', '-d', JSON.stringify(json), url)
  const size = Math.min(MAX_ZERO, image.size)
  const readOnly = 'read only; start with --writable to allow it'
  const lines = [
    ['download', curl('-o', copy, url)],
    ['first 512 bytes', curl('-r', '0-511', '-o', `${copy}.part`, url)],
    ['upload', image.isWritable ? curl('-T', copy, url) : readOnly],
    ['zero', image.isWritable ? patch({ op: 'zero', offset: 0, size, flush: true }) : readOnly],
    ...(image.isWritable && !image.isSparse ? [['', KEEPS_SPACE] as const] : []),
    ['extents', curl(`${url}/extents`)],
    [
      'unix socket',
      shellLine(
        'curl',
        '--unix-socket',
        dataSocket,
        '-o',
        copy,
        url.replace(/^.*?(?=\/images)/, 'http://localhost'),
      ),
    ],
  ] as const
  const access = image.isWritable ? 'writable' : 'read only'
  const sample = image.isSample ? ', a sample, removed at the end' : ''
  return `${clean(image.path)}  (${humanBytes(image.size)}, ${access}${sample})

  URL  ${url}
  CA   ${clean(caFile)}

${lines.map(([name, line]) => `  ${name.padEnd(16)}${clean(line)}\n`).join('')}`
}

/** A comment to the shell, should somebody paste it as well. */
const KEEPS_SPACE = '# zeroes stay allocated; start with --sparse to give their space back'

/** What the printed line zeroes: enough to see, little enough to regret. */
const MAX_ZERO = 65_536

function clean(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}
