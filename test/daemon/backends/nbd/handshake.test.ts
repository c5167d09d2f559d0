/** Conformance 205-207 and everything a server may do wrong before transmission. */
import t, { type Test } from 'tap'
import {
  ACK,
  GREETING,
  pack,
  scriptedServer,
  UNSUPPORTED,
  type Peer,
} from '../../../support/nbd-script.js'
import { until } from '../../../support/wait.js'
import { openExport, type Options } from './exports.js'

async function fails(
  t: Test,
  name: string,
  script: (peer: Peer) => Promise<void>,
  expected: { code: string; statusCode: number; message?: RegExp },
  options: Options = {},
): Promise<void> {
  const url = await scriptedServer(t, script)
  const opening = openExport(t, url, { connectTimeoutMs: 300, ...options })
  await t.rejects(opening, expected, name)
}

const broken = (message: RegExp) => ({ code: 'ERR_NBD_PROTOCOL', statusCode: 500, message })
const refused = (message: RegExp) => ({ code: 'ERR_BACKEND_OPEN', statusCode: 500, message })
const forever = (): Promise<never> => new Promise(() => undefined)

/** Says hello, then answers options up to `option`, which is the script's. */
const at =
  (option: number, answer: (peer: Peer, data: Buffer) => void) =>
  async (peer: Peer): Promise<void> => {
    peer.send(GREETING)
    await peer.read(4)
    for (;;) {
      const got = await peer.option()
      if (got.option === option) answer(peer, got.data)
      else if (got.option === 11) peer.reply(got.option, UNSUPPORTED)
      else peer.reply(got.option, ACK)
    }
  }

t.test('206: a greeting that is wrong', async (t) => {
  const hello = (hex: string) => async (peer: Peer) => peer.send(Buffer.from(hex, 'hex'))
  await fails(t, 'magic', hello('00'.repeat(18)), broken(/no NBD server/))
  await fails(
    t,
    'oldstyle',
    hello('4e42444d414749430000420281861253' + '00'.repeat(136)),
    broken(/oldstyle/),
  )
  await fails(
    t,
    'no fixed newstyle',
    hello('4e42444d4147494349484156454f50540002'),
    broken(/fixed newstyle/),
  )
  await fails(
    t,
    'HTTP',
    async (peer) => peer.send(Buffer.from('HTTP/1.1 400 Bad\r\n\r\n')),
    broken(/no NBD server/),
  )
})

t.test('206: silence and early ends do not hang', async (t) => {
  const late = { code: 'ERR_STORAGE_TIMEOUT', statusCode: 504 }
  await fails(t, 'silence', forever, late)
  await fails(t, 'half a greeting', async (peer) => peer.send(GREETING.subarray(0, 10)), late)
  await fails(t, 'silence after the greeting', async (peer) => peer.send(GREETING), late)
  await fails(t, 'hang up', async (peer) => peer.hangUp(), refused(/cannot be reached/))
  await fails(
    t,
    'hang up',
    at(7, (peer) => peer.hangUp()),
    refused(/cannot be reached/),
  )
  await fails(
    t,
    'half an answer',
    at(7, (peer) => peer.send('u64', 0x3e889045565)),
    late,
  )
})

t.test('answers to options are checked', async (t) => {
  const reply = (...parts: Parameters<typeof pack>) => at(8, (peer) => peer.send(...parts))
  const magic = Buffer.from('0003e889045565a9', 'hex')
  await fails(t, 'magic', reply('u64', 1, 'u32', 8, 'u32', 1, 'u32', 0), broken(/wrong magic/))
  await fails(t, 'other option', reply(magic, 'u32', 7, 'u32', 1, 'u32', 0), broken(/nobody asked/))
  await fails(t, 'long', reply(magic, 'u32', 8, 'u32', 1, 'u32', 2 ** 31), broken(/too long/))
  await fails(
    t,
    'ACK with data',
    at(8, (peer) => peer.reply(8, ACK, pack('u8', 0))),
    broken(/ACK with data/),
  )
  const flood = at(10, (peer) => {
    for (let count = 0; count < 2000; count++) peer.reply(10, 4, pack('u32', 1, Buffer.from('x')))
  })
  await fails(t, 'endless answers', flood, broken(/endless/))
})

t.test('205: refusals say why', async (t) => {
  const refuse = (option: number, type: number) =>
    at(option, (peer) => peer.reply(option, type, Buffer.from('no\n')))
  await fails(t, 'unknown export', refuse(7, 0x80000006), refused(/no such export/))
  await fails(t, 'unknown export', refuse(10, 0x80000006), refused(/no such export/))
  await fails(t, 'policy', refuse(7, 0x80000002), refused(/does not allow/))
  await fails(t, 'TLS', refuse(8, 0x80000005), refused(/TLS/))
  await fails(t, 'shutdown', refuse(7, 0x80000007), refused(/shutting down/))
  await fails(t, 'structured replies', refuse(8, 0x80000003), refused(/refused an option/))
  await fails(t, 'no GO', refuse(7, UNSUPPORTED), refused(/choose an export/))
})

t.test('facts of the export are checked', async (t) => {
  const info = (...data: Parameters<typeof pack>) =>
    at(7, (peer) => {
      peer.reply(7, 3, pack(...data))
      peer.reply(7, ACK)
    })
  const size = Buffer.from('ffffffffffffffff', 'hex')
  await fails(
    t,
    'no size',
    at(7, (peer) => peer.reply(7, ACK)),
    broken(/no size/),
  )
  await fails(t, 'huge', info('u16', 0, size, 'u16', 1), broken(/larger than any image/))
  await fails(t, 'short', info('u16', 0, 'u64', 1), broken(/wrong length/))
  await fails(t, 'empty', info('u8', 0), broken(/tells nothing/))
  const sizes = (minimum: number, maximum: number) =>
    info('u16', 3, 'u32', minimum, 'u32', 4096, 'u32', maximum)
  await fails(t, 'no power of two', sizes(3, 4096), broken(/block size of 3/))
  await fails(t, 'zero', sizes(0, 4096), broken(/block size of 0/))
  await fails(t, 'large', sizes(2 ** 17, 2 ** 20), broken(/block size of 131072/))
  await fails(t, 'maximum', sizes(4096, 512), broken(/smaller than a block/))
})

t.test('contexts are those that were asked for', async (t) => {
  const grant = (...contexts: [number, string][]) =>
    at(10, (peer) => {
      for (const [id, name] of contexts) peer.reply(10, 4, pack('u32', id, Buffer.from(name)))
      peer.reply(10, ACK)
    })
  await fails(t, 'unknown', grant([1, 'x:y']), broken(/nobody asked/))
  await fails(t, 'twice', grant([1, 'base:allocation'], [2, 'base:allocation']), broken(/twice/))
  await fails(
    t,
    'same id',
    grant([1, 'base:allocation'], [1, 'qemu:allocation-depth']),
    broken(/twice/),
  )
  const say = (type: number, data: Buffer) =>
    at(10, (peer) => {
      peer.reply(10, type, data)
      peer.reply(10, ACK)
    })
  await fails(t, 'no name', say(4, pack('u32', 1)), broken(/wrong length/))
  const binary = pack('u32', 1, Buffer.from('ff', 'hex'))
  await fails(t, 'no text', say(4, binary), broken(/no text/))
  await fails(t, 'other answer', say(3, pack('u16', 0)), broken(/no context/))
})

t.test('opening can be cancelled', async (t) => {
  const abort = new AbortController()
  const url = await scriptedServer(t, forever)
  const opening = openExport(t, url, { connectTimeoutMs: 60_000, signal: abort.signal })
  setTimeout(() => abort.abort(new Error('canceled')), 50)
  await t.rejects(opening, { message: 'canceled' })
})

t.test('205: what is not there is told', async (t) => {
  await t.rejects(openExport(t, 'nbd:unix:/nonexistent/socket'), refused(/does not exist/))
  await t.rejects(openExport(t, 'nbd:127.0.0.1:1'), refused(/refuses connections/))
  await t.rejects(openExport(t, 'nbd:no-such-host.invalid:1'), {
    code: /ERR_BACKEND_OPEN|ERR_STORAGE_TIMEOUT/,
  })
})

t.test('217: a negotiation that fails is aborted in an orderly way', async (t) => {
  let last = 0
  const script = async (peer: Peer): Promise<void> => {
    peer.send(GREETING)
    await peer.read(4)
    while ((last = (await peer.option()).option) !== 2) {
      peer.reply(last, last === 7 ? 0x80000006 : UNSUPPORTED)
    }
  }
  await fails(t, 'unknown export', script, refused(/no such export/))
  await until('ABORT', () => last === 2)
})
