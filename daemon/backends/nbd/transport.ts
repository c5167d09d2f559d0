/**
 * The socket to an NBD server: plain or TLS, read straight into the memory of who waits. With a mover the
 * threads of the addon take it over after the handshake, if it is one that they can have.
 */
import net from 'node:net'
import tls from 'node:tls'
import { getSystemErrorName } from 'node:util'
import { connectUnix } from '../../../native/index.js'
import type { NbdLink, NbdMover, ReplyFormat } from '../../../native/nbd.js'
import { BackendOpenError, StorageGoneError, StorageTimeoutError } from '../errors.js'
import { ByteFeed } from './byte-feed.js'
import { NbdProtocolError } from './errors.js'
import type { NbdAddress } from './url.js'

/** Replies and their headers land here first; data goes to its place without a stop. */
const SCRATCH_SIZE = 16 * 1024

/** One address of several may be dead without saying so. */
const ATTEMPT_TIMEOUT_MS = 3000

/** For the last bytes, when nobody waits any more. */
const END_TIMEOUT_MS = 1000

/** Of the last words, to which there is no reply. */
const LAST_COOKIE = 0

interface TransportOptions {
  readonly isPlain: boolean
  readonly mover?: NbdMover | undefined
}

interface Sending {
  readonly cookie: number
  readonly offset: number
  /** Where the data of the reply go. */
  readonly target?: Buffer | undefined
  readonly payload?: Buffer | undefined
  readonly onSent?: (() => void) | undefined
}

export class Transport {
  readonly feed = new ByteFeed()
  /** Called once, when nothing can be sent or received any more. */
  onFailure: (error: Error) => void = () => undefined
  #socket: net.Socket
  #failure: Error | undefined
  #isEnding = false
  #rejectRead: (error: Error) => void = () => undefined
  /** Of the socket, where a mover may take it. */
  readonly #fd: number | undefined
  readonly #mover: NbdMover | undefined
  #link: NbdLink | undefined
  #stopEnding: () => void = () => undefined

  /** Plain data is read without copies; TLS needs a stream it can wrap. Throws SystemError. */
  constructor(address: NbdAddress, { isPlain, mover }: TransportOptions) {
    if (isPlain && mover !== undefined && 'path' in address) {
      this.#mover = mover
      this.#fd = connectUnix(address.path)
      this.#socket = new net.Socket({ fd: this.#fd })
      this.#watch(this.#socket)
      this.#readFrom(this.#socket)
      return
    }
    const scratch = Buffer.allocUnsafeSlow(SCRATCH_SIZE)
    const onread = {
      buffer: () => this.feed.direct ?? scratch,
      callback: (count: number, into: Uint8Array): boolean => {
        this.#receive(() => {
          if (into === scratch) this.feed.feed(scratch.subarray(0, count))
          else this.feed.filled(count)
        })
        return true
      },
    }
    const where =
      'path' in address
        ? address
        : { ...address, autoSelectFamilyAttemptTimeout: ATTEMPT_TIMEOUT_MS, noDelay: true }
    this.#socket = net.connect({ ...where, ...(isPlain ? { onread } : {}) })
    this.#watch(this.#socket)
    if (!isPlain) this.#readFrom(this.#socket)
  }

  /** Address and port of the server; undefined for a Unix socket. */
  get peer(): string | undefined {
    const { remoteAddress, remotePort } = this.#socket
    return remoteAddress === undefined ? undefined : `${remoteAddress} ${remotePort ?? 0}`
  }

  get failure(): Error | undefined {
    return this.#failure
  }

  connected(): Promise<void> {
    return this.#fd === undefined ? this.#event('connect') : Promise.resolve()
  }

  /** After the handshake: what `finished` is told of does not come by the feed. */
  moveOver(format: ReplyFormat, finished: (cookie: number) => void): void {
    if (this.#fd === undefined || this.#mover === undefined || this.#failure !== undefined) return
    const link = this.#mover.take(this.#fd, format, {
      bytes: (bytes) => this.#receive(() => this.feed.feed(bytes)),
      finished,
      broken: (violation) => this.fail(new NbdProtocolError(violation)),
      // Told in one go with the replies that came before it: who waits for those goes on first.
      lost: (errno) => {
        setImmediate(() => this.fail(new StorageGoneError({ cause: lossOf(errno) })))
      },
    })
    // The link has a descriptor of its own.
    this.#socket.removeAllListeners()
    this.#socket.on('error', () => undefined)
    this.#socket.destroy()
    this.#link = link
  }

  /** Nothing may have come in the clear behind the server's consent: it could be anybody's. */
  async startTls(options: tls.ConnectionOptions): Promise<void> {
    if (this.feed.held > 0) throw new NbdProtocolError('there is data before TLS')
    const plain = this.#socket
    plain.removeAllListeners('data')
    // Said, as Node's default obeys NODE_TLS_REJECT_UNAUTHORIZED of the environment.
    const secure = tls.connect({ ...options, socket: plain, rejectUnauthorized: true })
    this.#socket = secure
    this.#watch(secure)
    this.#readFrom(secure)
    await this.#event('secureConnect')
  }

  /** For the handshake: one at a time. */
  read(size: number): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      const bytes = Buffer.allocUnsafe(size)
      this.#rejectRead = reject
      this.#receive(() => this.feed.expect(bytes, () => resolve(bytes)))
    })
  }

  /** A request of the transmission phase; `onSent` as below. */
  send(header: Buffer, { cookie, offset, target, payload, onSent }: Sending): void {
    if (this.#link === undefined) this.write(header, payload, onSent)
    else if (target !== undefined) this.#link.read(header, cookie, offset, target)
    else this.#link.send(header, cookie, payload, onSent)
  }

  /** The request is complete, however it was told. */
  forget(cookie: number): void {
    this.#link?.forget(cookie)
  }

  /** `done` is called when the bytes are the kernel's, or never when the transport fails. */
  write(header: Buffer, payload?: Buffer, done?: () => void): void {
    const onWritten = (error?: Error | null): void => {
      if (error === undefined || error === null) done?.()
    }
    if (payload === undefined) {
      this.#socket.write(header, onWritten)
      return
    }
    this.#socket.cork()
    this.#socket.write(header)
    this.#socket.write(payload, onWritten)
    this.#socket.uncork()
  }

  /** When this returns nobody's memory is read or written any more. */
  fail(error: Error): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    this.feed.stop()
    this.#link?.cut()
    this.#socket.destroy()
    this.#stopEnding()
    this.#rejectRead(error)
    this.onFailure(error)
  }

  /** Sends the last words, and resolves when they are gone or that takes too long. */
  async end(words: Buffer): Promise<void> {
    if (this.#failure !== undefined || this.#isEnding) return
    this.#isEnding = true
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, END_TIMEOUT_MS)
      const stop = (): void => {
        clearTimeout(timer)
        resolve()
      }
      this.#stopEnding = stop
      if (this.#link !== undefined) this.#link.send(words, LAST_COOKIE, undefined, stop)
      else {
        this.#socket.once('close', stop)
        this.#socket.end(words, stop)
      }
    })
    this.fail(new StorageGoneError())
  }

  #event(name: string): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure)
        return
      }
      this.#rejectRead = reject
      this.#socket.once(name, () => resolve())
    })
  }

  #readFrom(socket: net.Socket): void {
    socket.on('data', (chunk: Buffer) => this.#receive(() => this.feed.feed(chunk)))
  }

  #receive(take: () => void): void {
    if (this.#failure !== undefined) return
    try {
      take()
    } catch (error) {
      this.fail(error instanceof Error ? error : new NbdProtocolError('it cannot be understood'))
    }
  }

  #watch(socket: net.Socket): void {
    const gone = (cause?: Error): void => this.fail(new StorageGoneError({ cause }))
    socket.on('error', gone)
    socket.on('end', () => gone(new Error('the server closed the connection')))
    socket.on('close', () => gone())
  }
}

function lossOf(errno: number): Error {
  if (errno === 0) return new Error('the server closed the connection')
  const code = getSystemErrorName(-errno)
  return Object.assign(new Error(`the connection is lost: ${code}`), { code })
}

/** What keeps a server from being reached, for clients; the cause has the address, for the log. */
export function connectError(error: unknown): Error {
  const cause = error instanceof StorageGoneError ? error.cause : error
  if (error instanceof StorageTimeoutError || error instanceof NbdProtocolError) return error
  if (!(cause instanceof Error) || cause instanceof BackendOpenError) return error as Error
  const code = 'code' in cause ? String(cause.code) : ''
  const isCertificate = /CERT|SIGNATURE|ISSUER/.test(code)
  const unknown = isCertificate
    ? 'the certificate of the NBD server is not trusted'
    : 'the NBD server cannot be reached'
  const reason = REASONS.get(code) ?? unknown
  return new BackendOpenError(reason, { cause })
}

const REASONS = new Map([
  ['ERR_TLS_CERT_ALTNAME_INVALID', 'the certificate of the NBD server is for another name'],
  ['ENOENT', 'the socket of the NBD server does not exist'],
  ['ECONNREFUSED', 'the NBD server refuses connections'],
  ['EACCES', 'permission denied'],
  ['ENOTFOUND', 'the host of the NBD server is not known'],
])
