/**
 * oVirt's Python SDK, by its requests as they were recorded: one connection, its header block in its
 * order, a token before the first request and a new one after a 401. It is as strict with answers as
 * the SDK, which was seen to fail on each of the things looked at here.
 */
import type { Test } from 'tap'
import { until } from './wait.js'
import { Wire, type Target, type WireResponse } from './wire.js'

export const A = '/ovirt-engine/api'
export const COMPLETE = /^<action>\s*<status>complete<\/status>\s*<\/action>\s*$/

const AGENT = 'Host: engine.example:8443\r\nUser-Agent: PythonSDK/4.6.4\r\n'

/** Values of elements that the SDK turns into members of its enumerations, or into None. */
const ENUMERATIONS: Readonly<Record<string, RegExp>> = {
  phase:
    /^(initializing|transferring|resuming|paused_(system|user)|cancelled_(system|user)|finalizing_(success|failure|cleanup)|finished_(success|failure|cleanup))$/,
  direction: /^(upload|download)$/,
  format: /^(raw|cow)$/,
  timeout_policy: /^(legacy|pause|cancel)$/,
  backup: /^(none|incremental)$/,
  content_type: /^(data|iso)$/,
  qcow_version: /^qcow2_v[23]$/,
  architecture: /^x86_64$/,
}
/** Read as integers: empty ones raise ValueError. */
const INTEGERS =
  /<(transferred|provisioned_size|actual_size|total_size|inactivity_timeout|available|used|committed)>([^<]*)</g

export interface SdkOptions {
  readonly password?: string
  /** More headers of requests to the SSO, as an API URL with a user in it makes libcurl send. */
  readonly ssoHeaders?: string
}

export class Sdk {
  readonly #wire: Wire
  readonly #t: Test
  readonly #options: SdkOptions
  token = ''

  private constructor(wire: Wire, t: Test, options: SdkOptions) {
    this.#wire = wire
    this.#t = t
    this.#options = options
  }

  static async open(t: Test, target: Target, options: SdkOptions = {}): Promise<Sdk> {
    const wire = await Wire.open(target)
    t.teardown(() => wire.destroy())
    return new Sdk(wire, t, options)
  }

  async login(password = this.#options.password ?? 'secret'): Promise<WireResponse> {
    const form = `grant_type=password&scope=ovirt-app-api&username=admin%40internal&password=${password}`
    const reply = await this.#form('/ovirt-engine/sso/oauth/token', form)
    const { access_token: token } = JSON.parse(reply.text) as { access_token?: string }
    if (token !== undefined) this.token = token
    return reply
  }

  async logout(): Promise<void> {
    const form = `scope=ovirt-app-api&token=${this.token}`
    const { status, text } = await this.#form('/ovirt-engine/services/sso-logout', form)
    this.#t.equal(status, 200)
    this.#t.equal(text, '{}')
  }

  async #form(path: string, form: string): Promise<WireResponse> {
    const reply = await this.#wire.ask(
      `POST ${path} HTTP/1.1\r\n${AGENT}${this.#options.ssoHeaders ?? ''}` +
        `Accept: application/json\r\nContent-Length: ${form.length}\r\n` +
        `Content-Type: application/x-www-form-urlencoded\r\n\r\n${form}`,
    )
    this.#t.match(reply.headers['content-type'], /^application\/json/)
    return reply
  }

  /** As it comes, 401 included. */
  async askOnce(method: string, path: string, body?: string): Promise<WireResponse> {
    const length = body === undefined ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`
    const reply = await this.#wire.ask(
      `${method} ${path.startsWith('/') ? path : `${A}/${path}`} HTTP/1.1\r\nHost: engine.example:8443\r\n` +
        'Accept-Encoding: deflate, gzip, br, zstd\r\nUser-Agent: PythonSDK/4.6.4\r\nVersion: 4\r\n' +
        'Content-Type: application/xml\r\nAccept: application/xml\r\n' +
        `Authorization: Bearer ${this.token}\r\n${length}\r\n${body ?? ''}`,
    )
    this.#check(method, path, reply)
    return reply
  }

  /** With a token: one for the first request, another when that is refused. */
  async ask(method: string, path: string, body?: string): Promise<WireResponse> {
    if (this.token === '') await this.login()
    const reply = await this.askOnce(method, path, body)
    if (reply.status !== 401) return reply
    await this.login()
    return this.askOnce(method, path, body)
  }

  async get(path: string): Promise<string> {
    const { status, text } = await this.ask('GET', path)
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${text}`)
    return text
  }

  /** The body of an action is ten bytes. */
  act(id: string, action: string): Promise<WireResponse> {
    return this.ask('POST', `imagetransfers/${id}/${action}`, '<action/>\n')
  }

  async acted(id: string, action: string): Promise<void> {
    const { status, text } = await this.act(id, action)
    if (status !== 200 || !COMPLETE.test(text)) throw new Error(`${action}: ${status} ${text}`)
  }

  async add(collection: string, body: string): Promise<{ id: string; text: string }> {
    const { status, text, headers } = await this.ask('POST', collection, body)
    if (![200, 201, 202].includes(status)) throw new Error(`${collection}: ${status} ${text}`)
    const id = / id="([^"]+)"/.exec(text)?.[1] ?? ''
    const location = `${A}/${collection.replace(/\?.*/, '')}/${id}`
    if (headers['location'] !== location) throw new Error(`it is not at ${location}`)
    return { id, text }
  }

  /** GET of the transfer until it is in the phase. */
  async phase(id: string, phase: string): Promise<string> {
    let text = ''
    const isThere = async (): Promise<string | false> => {
      text = await this.get(`imagetransfers/${id}`)
      return phaseOf(text) === phase && text
    }
    return until(`transfer in ${phase}`, isThere, { timeoutMs: 20_000 }).catch((cause: unknown) => {
      throw new Error(`it is in ${phaseOf(text) ?? 'no phase'}, not ${phase}`, { cause })
    })
  }

  /** GET of the disk until it has the status. */
  async diskStatus(id: string, status: string): Promise<string> {
    const isThere = async (): Promise<string | false> => {
      const text = await this.get(`disks/${id}`)
      return text.includes(`<status>${status}</status>`) && text
    }
    return until(`disk ${id} is ${status}`, isThere, { timeoutMs: 20_000 })
  }

  /** GET of the transfer until there is none. */
  async gone(id: string): Promise<void> {
    const isGone = async () => (await this.ask('GET', `imagetransfers/${id}`)).status === 404
    await until('the transfer is forgotten', isGone, { timeoutMs: 20_000 })
  }

  async finalized(id: string, phase = 'finished_success'): Promise<string> {
    await this.acted(id, 'finalize')
    return this.phase(id, phase)
  }

  #check(method: string, path: string, reply: WireResponse): void {
    for (const problem of problemsOf(method, reply)) this.#t.fail(`${method} ${path}: ${problem}`)
  }
}

function* problemsOf(method: string, { status, headers, text }: WireResponse): Iterable<string> {
  if (status === 204 || (status >= 300 && status < 400)) yield `${status}`
  if (method === 'DELETE' && status < 400 && status !== 200) yield `${status}, not 200`
  if (status === 401 && headers['www-authenticate'] !== 'Basic realm="RESTAPI"') yield 'no realm'
  if (text === '') {
    if (status !== 404) yield `${status} without a body`
    return
  }
  if (!/^(application|text)\/xml/.test(headers['content-type'] ?? '')) yield 'no type of XML'
  if (headers['content-encoding'] !== undefined) yield 'encoded'
  if (/xmlns|<!DOCTYPE/.test(text)) yield 'a name space, or a document type'
  if (status >= 400 && !/^(<action>\s*)?<fault>[^]*<reason>/.test(text)) yield 'no fault'
  for (const [, href = ''] of text.matchAll(/ href="([^"]*)"/g)) {
    if (!href.startsWith(`${A}/`)) yield `href ${href}`
  }
  for (const [name, values] of Object.entries(ENUMERATIONS)) {
    const elements = text.matchAll(new RegExp(`<${name}>([^<]*)<`, 'g'))
    for (const [, value = ''] of elements) if (!values.test(value)) yield `${name} ${value}`
  }
  for (const [, name = '', value = ''] of text.matchAll(INTEGERS)) {
    if (!/^-?\d+$/.test(value)) yield `${name} ${value}`
  }
}

export function phaseOf(text: string): string | undefined {
  return /<phase>(\w+)<\/phase>/.exec(text)?.[1]
}

/** What the SDK writes for an object inside of another one. */
export function inside(text: string): string {
  return text.trimEnd().replace(/^/gm, '  ') + '\n'
}

export function transferXml(...lines: readonly string[]): string {
  return `<image_transfer>\n${lines.map((line) => `  ${line}\n`).join('')}</image_transfer>\n`
}

/** `ovirt-img upload-disk` of a qcow2 image: 393 bytes. */
export const OVIRT_IMG_DISK = `<disk>
  <backup>incremental</backup>
  <content_type>data</content_type>
  <description>Uploaded by ovirt-img</description>
  <format>cow</format>
  <initial_size>3473408</initial_size>
  <name>img</name>
  <provisioned_size>67108864</provisioned_size>
  <sparse>true</sparse>
  <storage_domains>
    <storage_domain>
      <name>sd1</name>
    </storage_domain>
  </storage_domains>
</disk>
`
