/** What is printed once images are served: where they are, and lines to paste. */
import { basename, parse } from 'node:path'
import { humanBytes } from '../ctl/table.js'
import type { Image } from './image.js'
import { shellLine, shellQuote } from './shell.js'
import type { ServedImage } from './tickets.js'
import { transferInstructions } from './transfer-instructions.js'
import type { TransferPlace } from './transfers.js'

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
  /** Proxy and transfer service, unless there is only the daemon. */
  readonly beside?: { readonly proxyOrigin: string; readonly transfers: TransferPlace } | undefined
}

/** Printable: paths may hold anything, and a terminal might obey it. */
export function instructions(place: Place, images: readonly ServedImage[]): string {
  const names = copyNames(images)
  const shown = images
    .map((image, index) => imageInstructions(place, image, names[index] ?? ''))
    .join('\n')
  const warning = place.isPublic
    ? '\nOther machines can connect. Whoever knows a URL has access to its image.\n'
    : ''
  const { beside, caFile } = place
  const transfers = beside ? `\n${transferInstructions(beside.transfers, caFile, clean)}` : ''
  return `${servers(place)}
Paste any of these lines into another terminal; "download" is a good first.

${shown}${transfers}
All tickets:  ${shellLine(place.imageioctl, '-c', place.confDir, 'list')}
${warning}
Stop with Ctrl-C.

`
}

function servers({ origin, beside }: Place): string {
  const lines = [
    ['daemon', origin],
    ...(beside
      ? [
          ['proxy', beside.proxyOrigin],
          ['transfer service', beside.transfers.apiUrl],
        ]
      : []),
  ]
  return lines.map(([name = '', url = '']) => `${name.padEnd(18)}${url}\n`).join('')
}

function imageInstructions(place: Place, image: ServedImage, name: string): string {
  const { origin, caFile, dataSocket, beside } = place
  const url = `${origin}/images/${image.ticketId}`
  const proxyUrl = `${beside?.proxyOrigin ?? origin}/images/${image.ticketId}`
  const curl = (...words: string[]): string => shellLine('curl', '--cacert', caFile, ...words)
  const copy = image.guest ? `${name}.copy.raw` : `${name}.copy`
  const patch = (json: object): string =>
    curl('-X', 'PATCH', '-H', 'Content-Type: application/json', '-d', JSON.stringify(json), url)
  const size = Math.min(MAX_ZERO, image.size)
  const readOnly = 'read only; start with --writable to allow it'
  const lines = [
    ['download', curl('-o', copy, url)],
    ...(image.guest ? [['as qcow2', asQcow2(url, caFile, name)] as const] : []),
    ...(beside ? [['by the proxy', curl('-o', copy, proxyUrl)] as const] : []),
    ['first 512 bytes', curl('-r', '0-511', '-o', `${copy}.part`, url)],
    ['upload', image.isWritable ? curl('-T', copy, url) : readOnly],
    ['zero', image.isWritable ? patch({ op: 'zero', offset: 0, size, flush: true }) : readOnly],
    ...(image.isWritable && !image.isSparse ? [['', KEEPS_SPACE] as const] : []),
    ['extents', curl(`${url}/extents`)],
    ['checksum', curl(`${url}/checksum`)],
    ...(image.guest?.bitmap === undefined
      ? []
      : [['changed blocks', curl(`${url}/extents?context=dirty`)] as const]),
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
  return `${clean(image.path)}  (${description(image)})
${notes(image)
  .map((note) => `  ${clean(note)}\n`)
  .join('')}
  URL  ${url}
  CA   ${clean(caFile)}

${lines.map(([name, line]) => `  ${name.padEnd(16)}${clean(line)}\n`).join('')}`
}

function description({ guest, size, isWritable, isSample }: Image): string {
  return [
    ...(guest ? [guest.format, `${humanBytes(size)} guest data`] : [humanBytes(size)]),
    isWritable ? 'writable' : 'read only',
    ...(isSample ? ['a sample', 'removed at the end'] : []),
  ].join(', ')
}

function notes({ guest, header }: Image): string[] {
  const files = guest?.otherFiles ?? []
  return [
    ...(guest?.isUnsure
      ? [
          'WARNING: there is too much of it to see quickly that no end of a file is missing; ' +
            'a copy has zeroes where one is. qemu-img map tells where the data lies.',
        ]
      : []),
    ...files.map(({ name, format }) => `with ${name} (${format})`),
    ...(header
      ? [
          `It begins like a ${header} image, but is not called so: its own bytes are served. ` +
            `--format ${header} serves the guest's data.`,
        ]
      : []),
  ]
}

/**
 * What names of copies begin with, each another one. They are made in the user's directory; a file that
 * has such a name already is a copy as well.
 */
function copyNames(images: readonly Image[]): string[] {
  const names: string[] = []
  for (const { path, guest } of images) {
    const wanted = guest ? parse(path).name : basename(path)
    let name = wanted
    for (let count = 2; names.includes(name); count++) name = `${wanted}-${count}`
    names.push(name)
  }
  return names
}

function asQcow2(url: string, caFile: string, name: string): string {
  const copy = shellQuote(`${name}.copy.qcow2`)
  const convert = `qemu-img convert -f raw -O qcow2 "$uri" ${copy}`
  return shellLine('nbdkit', '-r', '-U', '-', 'curl', url, `cainfo=${caFile}`, '--run', convert)
}

/** A comment to the shell, should somebody paste it as well. */
const KEEPS_SPACE = '# zeroes stay allocated; start with --sparse to give their space back'

/** What the printed line zeroes: enough to see, little enough to regret. */
const MAX_ZERO = 65_536

function clean(text: string): string {
  return text.replace(/\p{Cc}/gu, '?')
}
