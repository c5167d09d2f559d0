/** What is printed about the transfer service: lines to paste, one after the other. */
import { shellLine, shellQuote } from './shell.js'
import type { TransferPlace } from './transfers.js'

const MiB = 2 ** 20
const DISK =
  '<disk id="mydisk"><name>mydisk</name><format>raw</format>' +
  `<initial_size>${MiB}</initial_size><provisioned_size>${MiB}</provisioned_size></disk>`
const TRANSFER = '<image_transfer><disk id="mydisk"/><direction>upload</direction></image_transfer>'
/** The first of its kind in an answer, without needing a parser. */
const ID = `grep -o ' id="[^"]*"' | head -n 1 | cut -d '"' -f 2`
const url = (element: string): string => `grep -o '<${element}>[^<]*' | cut -d '>' -f 2`

export function transferInstructions(place: TransferPlace, caFile: string): string {
  const { apiUrl, user, password, dir } = place
  const curl = shellLine('curl', '-sS', '--cacert', caFile)
  const api = `${curl} ${shellLine('-u', `${user}:${password}`)}`
  const post = `${api} -H 'Content-Type: application/xml'`
  const transfer = `${apiUrl}/imagetransfers/$id`
  const lines = [
    ['add disk', `${post} -H 'Expect: 201-created' -d ${shellQuote(DISK)} ${apiUrl}/disks`],
    ['some data', `head -c ${MiB} /dev/urandom > mydisk.img`],
    ['add transfer', `id=$(${post} -d ${shellQuote(TRANSFER)} ${apiUrl}/imagetransfers | ${ID})`],
    ['wait for it', `answer=$(${api} "${transfer}?wait=20&phase=initializing")`],
    ['to the daemon', `${curl} -T mydisk.img "$(echo "$answer" | ${url('transfer_url')})"`],
    ['to the proxy', `${curl} -T mydisk.img "$(echo "$answer" | ${url('proxy_url')})"`],
    ['finalize', `${post} -d '<action/>' "${transfer}/finalize"`],
    ['how it ended', `${api} "${transfer}?wait=20&phase=finalizing_success"`],
    ['status of it', `${api} ${apiUrl}/disks/mydisk`],
    ['python sdk', sdkLine(place, caFile)],
  ]
  return `Transfer service  (oVirt's ImageTransfer API)

  API       ${apiUrl}
  user      ${user}
  password  ${password}
  disks     ${dir}

${lines.map(([name = '', line = '']) => `  ${name.padEnd(16)}${line}\n`).join('')}
`
}

function sdkLine({ apiUrl, user, password }: TransferPlace, caFile: string): string {
  const words = { url: apiUrl, username: user, password, ca_file: caFile }
  const given = Object.entries(words).map(([key, value]) => `${key}=${JSON.stringify(value)}`)
  return `connection = ovirtsdk4.Connection(${given.join(', ')})`
}
