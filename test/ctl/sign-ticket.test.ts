import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run } from '../../ctl/run.js'
import { parseHeader, verifyToken } from '../../core/tickets/signed/token.js'
import { keyOfPem } from '../../core/tickets/signed/verification-key.js'
import { p256, pemOf } from '../core/tickets/signed/tokens.js'

async function imageioctl(...argv: string[]) {
  let [output, errors] = ['', '']
  const status = await run(argv, {
    stdin: (async function* () {})(),
    print: (text) => void (output += text),
    printError: (text) => void (errors += text),
  })
  return { status, output, errors }
}

async function keyPair(t: Test) {
  const name = join(t.testdir({}), 'engine')
  t.match(await imageioctl('make-key', name), { status: 0, errors: '' })
  return { name, secret: `${name}.key`, shared: `${name}.pem` }
}

const ARGUMENTS = [
  ...['--url', 'file:///images/disk', '--size', '18446744073709551616'],
  ...['--transfer-id', 'backup-17', '--audience', 'host'],
]

async function payloadOf(token: string, pem: string): Promise<Record<string, unknown>> {
  const { algorithm } = parseHeader(token)
  const bytes = await verifyToken(token, algorithm, keyOfPem(pem, 'k'))
  return JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>
}

t.test('make-key makes a pair, the private half for its owner only', async (t) => {
  const { secret, shared, name } = await keyPair(t)
  t.equal(statSync(secret).mode & 0o777, 0o600)
  t.match(readFileSync(secret, 'utf8'), /^-----BEGIN PRIVATE KEY-----/)
  t.match(readFileSync(shared, 'utf8'), /^-----BEGIN PUBLIC KEY-----/)
  const before = readFileSync(secret, 'utf8')
  t.match(await imageioctl('make-key', name), { status: 1, errors: /engine\.key: exists\n$/ })
  t.equal(readFileSync(secret, 'utf8'), before, 'nothing is replaced')
})

t.test('make-key leaves no half pair', async (t) => {
  const dir = t.testdir({ 'engine.pem': 'mine' })
  const name = join(dir, 'engine')
  t.match(await imageioctl('make-key', name), { status: 1, errors: /engine\.pem: exists/ })
  t.throws(() => statSync(`${name}.key`), { code: 'ENOENT' })
  t.equal(readFileSync(`${name}.pem`, 'utf8'), 'mine')
})

t.test('sign-ticket prints a token that its public key verifies', async (t) => {
  const { secret, shared } = await keyPair(t)
  const { status, output, errors } = await imageioctl('sign-ticket', '--key', secret, ...ARGUMENTS)
  t.match({ status, errors }, { status: 0, errors: '' })
  t.match(output, /^[\w-]+\.[\w-]+\.[\w-]+\n$/)
  t.equal(parseHeader(output.trim()).keyId, 'engine')
  const payload = await payloadOf(output.trim(), readFileSync(shared, 'utf8'))
  const { iat, exp, ...rest } = payload
  t.equal(Number(exp) - Number(iat), 3600)
  t.match(
    Buffer.from(output.split('.')[1] ?? '', 'base64url').toString(),
    '"size":18446744073709551616',
  )
  t.match(rest, {
    aud: 'host',
    transfer_id: 'backup-17',
    url: 'file:///images/disk',
    ops: ['read'],
  })
  t.notOk('sparse' in rest || 'dirty' in rest || 'nbf' in rest)
})

t.test('every option is a claim', async (t) => {
  const { secret, shared } = await keyPair(t)
  const { output } = await imageioctl(
    ...['sign-ticket', '--key', secret, ...ARGUMENTS, '--audience', 'site', '--ops', 'read,write'],
    ...['--expires', '2d', '--not-before', '30m', '--sparse', '--dirty', '--filename', 'a.img'],
    ...['--max-bytes-per-second', '10M'],
    ...['--inactivity-timeout', '7', '--kid', 'other', '--print-url', 'https://proxy:54322/'],
  )
  const [, token = ''] = /^https:\/\/proxy:54322\/images\/(.*)\n$/.exec(output) ?? []
  t.equal(parseHeader(token).keyId, 'other')
  const payload = await payloadOf(token, readFileSync(shared, 'utf8'))
  const { iat, exp, nbf } = payload
  t.equal(Number(exp) - Number(iat), 2 * 86_400)
  t.equal(Number(nbf) - Number(iat), 1800)
  t.match(payload, {
    ...{ aud: ['host', 'site'], ops: ['read', 'write'], sparse: true, dirty: true },
    ...{ filename: 'a.img', inactivity_timeout: 7, max_bytes_per_second: 10_485_760 },
  })
})

t.test('a key of P-256 signs, too; one that others can read is warned of', async (t) => {
  const pair = p256()
  const file = join(t.testdir({}), 'site.key')
  writeFileSync(file, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 })
  const quiet = await imageioctl('sign-ticket', '--key', file, ...ARGUMENTS)
  t.match(quiet, { status: 0, errors: '' })
  t.match(await payloadOf(quiet.output.trim(), pemOf(pair)), { aud: 'host' })
  chmodSync(file, 0o640)
  const warned = await imageioctl('sign-ticket', '--key', file, ...ARGUMENTS)
  t.match(warned, { status: 0, errors: /^imageioctl: warning: .*site\.key: others may access/ })
})

t.test('what cannot be signed is one line and status 1', async (t) => {
  const { secret, shared } = await keyPair(t)
  const sign = (...more: string[]) => imageioctl('sign-ticket', ...ARGUMENTS, ...more)
  const refused = async (message: RegExp, ...more: string[]): Promise<void> => {
    t.match(await sign(...more), { status: 1, output: '', errors: message }, more.join(' '))
  }
  await refused(/no such file\n$/, '--key', '/nonexistent')
  await refused(/^imageioctl: .*engine\.pem/m, '--key', shared)
  await refused(/^imageioctl: transfer_id/, '--key', secret, '--transfer-id', 'a/b')
  await refused(/^imageioctl: ops/, '--key', secret, '--ops', 'read,execute')
  await refused(/^imageioctl: size/, '--key', secret, '--size', '18446744073709551617')
})

t.test('what is missing or misspelt is status 2', async (t) => {
  const sign = (...argv: string[]) => imageioctl('sign-ticket', ...argv)
  for (const name of ['--url', '--size', '--transfer-id', '--audience']) {
    const at = ARGUMENTS.indexOf(name)
    const rest = ARGUMENTS.filter((_, index) => index !== at && index !== at + 1)
    t.match(await sign('--key', 'k', ...rest), {
      status: 2,
      errors: new RegExp(`${name} is missing`),
    })
  }
  t.match(await sign(...ARGUMENTS), { status: 2, errors: /--key is missing/ })
  for (const time of ['', 'x', '1w', '-1', '1.5h', '1h30m']) {
    t.match(await sign('--key', 'k', ...ARGUMENTS, `--expires=${time}`), { status: 2 }, time)
  }
  for (const size of ['1X', '1KB', 'G', '-1', '1.5G', '0x10']) {
    t.match(await sign('--key', 'k', ...ARGUMENTS, `--size=${size}`), { status: 2 }, size)
  }
  t.match(await sign('--frobnicate'), { status: 2, errors: /frobnicate/ })
  t.match(await imageioctl('make-key'), { status: 2, errors: /NAME is missing/ })
  t.match(await imageioctl('make-key', 'a', 'b'), { status: 2, errors: /too many/ })
})

t.test('a size may have a binary unit, a time may be seconds', async (t) => {
  const { secret, shared } = await keyPair(t)
  for (const [size, value] of Object.entries({ '3K': 3072, '2MiB': 2 ** 21, '6G': 6 * 2 ** 30 })) {
    const { output } = await imageioctl(
      ...['sign-ticket', '--key', secret, ...ARGUMENTS, '--size', size, '--expires', '90'],
    )
    const payload = await payloadOf(output.trim(), readFileSync(shared, 'utf8'))
    t.equal(payload['size'], value)
    t.equal(Number(payload['exp']) - Number(payload['iat']), 90)
  }
})

t.test('what no server would take is not signed, what few would is warned of', async (t) => {
  const { secret } = await keyPair(t)
  const sign = (...more: string[]) =>
    imageioctl('sign-ticket', '--key', secret, ...ARGUMENTS, ...more)
  for (const url of [
    'disk',
    '/a/disk',
    'file:disk',
    'file:///',
    'ftp://a/b',
    'https://a/b',
    'nbd:',
  ]) {
    t.match(await sign('--url', url), { status: 2, output: '', errors: /--url must be/ }, url)
  }
  for (const url of [
    ...['file:/a', 'nbd:unix:/a', 'nbd:localhost:10809:exportname=a', 'nbds://a/b'],
    ...['https://[::1]:54322/images/a', 'http://host/images/a'],
  ]) {
    t.match(await sign('--url', url), { status: 0, errors: '' }, url)
  }
  const over = /it would be over before it begins/
  t.match(await sign('--expires', '1h', '--not-before', '60m'), { status: 2, errors: over })
  t.match(await sign('--expires', '0'), { status: 2, errors: over })
  t.match(await sign('--expires', '1d'), { status: 0, errors: '' })
  const long = await sign('--expires', '86401s')
  t.match(long, {
    status: 0,
    output: /./,
    errors: /^imageioctl: warning: .* 86400 s, .*max_lifetime/,
  })
})

t.test('behind an option they are told to come first', async (t) => {
  for (const argv of [
    ['-c', '/a', 'sign-ticket', '--key', 'k'],
    ['--json', 'make-key', 'engine'],
  ]) {
    const errors = /^imageioctl: (sign-ticket|make-key) must be the first word; .* takes no -c /
    t.match(await imageioctl(...argv), { status: 2, errors })
  }
})

t.test('help names every option, and so does the manual', async (t) => {
  const { output } = await imageioctl('sign-ticket', '--help')
  const manual = readFileSync('docs/imageioctl.md', 'utf8')
  const options = [...output.matchAll(/^ {2,6}(?:-\w, )?(--[\w-]+)/gm)].map(([, name = '']) => name)
  t.ok(options.length > 14)
  for (const option of options)
    t.match(manual, `\`${option}\``.replace('`--help`', '--help'), option)
  t.match((await imageioctl('make-key', '--help')).output, /^Usage: imageioctl make-key NAME/)
  t.match((await imageioctl('--help')).output, /sign-ticket/)
})
