/** What is printed about the transfer service: lines to paste, one after the other. */
import { shellLine, shellQuote } from './shell.js'
import { disksDirectory, type TransferPlace } from './transfers.js'

const MiB = 2 ** 20
const diskXml = (id: string): string =>
  `<disk id="${id}"><name>${id}</name><format>raw</format>` +
  `<initial_size>${MiB}</initial_size><provisioned_size>${MiB}</provisioned_size></disk>`
const transferXml = (id: string): string =>
  `<image_transfer><disk id="${id}"/><direction>upload</direction></image_transfer>`
/** The first of its kind in an answer, without needing a parser. */
const ID = `grep -o ' id="[^"]*"' | head -n 1 | cut -d '"' -f 2`
const url = (element: string): string => `grep -o '<${element}>[^<]*' | cut -d '>' -f 2`

/** `clean` makes a line printable, as paths may hold anything. */
export function transferInstructions(
  place: TransferPlace,
  caFile: string,
  clean: (line: string) => string,
): string {
  const { apiUrl, user, password, dir, isKept, port } = place
  // Of this run: one of an earlier run may have been kept.
  const disk = `mydisk-${port}`
  const curl = shellLine('curl', '-sS', '--cacert', caFile)
  const credentials = shellLine('-u', `${user}:${password}`)
  // Named once: what differs between the lines is to be seen.
  const api = `api() { ${curl} ${credentials} -H 'Content-Type: application/xml' "$@"; }`
  const transfer = `${apiUrl}/imagetransfers/$id`
  const lines = [
    ['begin', api],
    ['add disk', `api -H 'Expect: 201-created' -d ${shellQuote(diskXml(disk))} ${apiUrl}/disks`],
    ['some data', `head -c ${MiB} /dev/urandom > mydisk.img`],
    [
      'add transfer',
      `id=$(api -d ${shellQuote(transferXml(disk))} ${apiUrl}/imagetransfers | ${ID})`,
    ],
    ['wait for it', `answer=$(api "${transfer}?wait=20&phase=initializing")`],
    ['to the daemon', `${curl} -T mydisk.img "$(echo "$answer" | ${url('transfer_url')})"`],
    ['to the proxy', `${curl} -T mydisk.img "$(echo "$answer" | ${url('proxy_url')})"`],
    ['finalize', `api -d '<action/>' "${transfer}/finalize"`],
    ['how it ended', `api "${transfer}?wait=20&phase=finalizing_success"`],
    ['status of it', `api ${apiUrl}/disks/${disk}`],
  ]
  const others = [
    ['ovirt-img', ovirtImgLine(place, caFile)],
    ['python sdk', sdkLine(place, caFile)],
  ]
  const print = (some: string[][]): string =>
    some.map(([name = '', line = '']) => `  ${name.padEnd(16)}${clean(line)}\n`).join('')
  const end = isKept ? 'kept' : 'removed at the end; --transfers DIR keeps them'
  return `Transfer service  (oVirt's ImageTransfer API)

  API       ${apiUrl}
  user      ${user}
  password  ${password}
  disks     ${clean(disksDirectory(dir))}  (${end})

An upload, one line after the other in one shell:

${print(lines)}
Other clients:

${print(others)}`
}

/** Of ovirt-imageio's client. */
function ovirtImgLine({ apiUrl, user, passwordFile }: TransferPlace, caFile: string): string {
  return shellLine(
    ...['ovirt-img', 'upload-disk', '--engine-url', new URL(apiUrl).origin],
    ...['--username', user, '--password-file', passwordFile, '--cafile', caFile],
    ...['--storage-domain', 'default', 'mydisk.img'],
  )
}

function sdkLine({ apiUrl, user, password }: TransferPlace, caFile: string): string {
  const words = { url: apiUrl, username: user, password, ca_file: caFile }
  const given = Object.entries(words).map(([key, value]) => `${key}=${JSON.stringify(value)}`)
  return `import ovirtsdk4; connection = ovirtsdk4.Connection(${given.join(', ')})`
}
