import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { KeyRing } from '../../../../core/tickets/signed/key-ring.js'
import { recordingLogger } from '../../http/exchanges.js'
import { ed25519, jwkOf, keyDirectory, p256, pemOf, type Pair } from './tokens.js'

const EDDSA = { algorithm: 'EdDSA', keyId: undefined } as const

async function open(t: Test, path: string) {
  const { logger, lines } = recordingLogger()
  const ring = await KeyRing.open(path, logger)
  t.teardown(() => ring.close())
  const kids = (): string[] => ['a', 'b', 'c'].filter((kid) => isKnown(ring, kid))
  const messages = (): string[] => lines.map(({ msg }) => msg)
  return { ring, lines, kids, messages }
}

function isKnown(ring: KeyRing, keyId: string): boolean {
  const tries = (['EdDSA', 'ES256'] as const).map((algorithm) => {
    try {
      return ring.select({ algorithm, keyId }).id === keyId
    } catch {
      return false
    }
  })
  return tries.includes(true)
}

const jwkText = (pair: Pair, more: object = {}): string =>
  JSON.stringify({ ...jwkOf(pair), ...more })
const setOf = (...keys: object[]): string => JSON.stringify({ keys })

t.test('keys of a directory are known by name or kid', async (t) => {
  const dir = keyDirectory(t, {
    'a.pem': pemOf(ed25519()),
    'other.jwk': jwkText(p256(), { kid: 'b' }),
    'c.jwk': jwkText(ed25519()),
    '.hidden.pem': 'nonsense',
    'd.key': 'nonsense',
    README: 'nonsense',
  })
  const { kids, messages } = await open(t, dir)
  t.strictSame(kids(), ['a', 'b', 'c'])
  t.strictSame(messages(), ['keys of signed tickets'])
})

t.test('a kid is no path and no property of an object', async (t) => {
  const dir = keyDirectory(t, { 'a.pem': pemOf(ed25519()) })
  const { ring } = await open(t, dir)
  for (const keyId of [
    '../a',
    './a',
    'a.pem',
    join(dir, 'a.pem'),
    'a\0',
    '__proto__',
    'toString',
    '/dev/null',
  ]) {
    t.throws(() => ring.select({ algorithm: 'EdDSA', keyId }), { message: /no key of ours/ }, keyId)
  }
})

t.test('a key is only for its own algorithm', async (t) => {
  const dir = keyDirectory(t, { 'a.pem': pemOf(ed25519()), 'b.pem': pemOf(p256()) })
  const { ring } = await open(t, dir)
  t.equal(ring.select({ algorithm: 'Ed25519', keyId: 'a' }).id, 'a')
  t.throws(() => ring.select({ algorithm: 'ES256', keyId: 'a' }), { message: /^alg is not/ })
  t.throws(() => ring.select({ algorithm: 'EdDSA', keyId: 'b' }), { message: /^alg is not/ })
})

t.test('without a kid there must be exactly one key for the algorithm', async (t) => {
  const dir = keyDirectory(t, { 'a.pem': pemOf(ed25519()), 'b.pem': pemOf(p256()) })
  const { ring } = await open(t, dir)
  t.equal(ring.select(EDDSA).id, 'a')
  writeFileSync(join(dir, 'c.pem'), pemOf(ed25519()))
  await ring.reload()
  t.throws(() => ring.select(EDDSA), { message: /^kid is missing/ })
  t.equal(ring.select({ algorithm: 'ES256', keyId: undefined }).id, 'b')
})

t.test('rotation: keys come, are replaced, and go', async (t) => {
  const dir = keyDirectory(t, { 'a.pem': pemOf(ed25519()) })
  const { ring, kids, messages } = await open(t, dir)
  const first = ring.select({ algorithm: 'EdDSA', keyId: 'a' })
  t.ok(ring.has(first))
  writeFileSync(join(dir, 'b.pem'), pemOf(ed25519()))
  await ring.reload()
  t.strictSame(kids(), ['a', 'b'])
  writeFileSync(join(dir, '.a.new'), pemOf(ed25519()))
  renameSync(join(dir, '.a.new'), join(dir, 'a.pem'))
  await ring.reload()
  t.notOk(ring.has(first), 'the name is the same, the key is not')
  t.ok(ring.has(ring.select({ algorithm: 'EdDSA', keyId: 'a' })))
  unlinkSync(join(dir, 'a.pem'))
  await ring.reload()
  t.strictSame(kids(), ['b'])
  const logged = messages().length
  await ring.reload()
  t.equal(messages().length, logged, 'no change is no line')
})

t.test('a broken new file keeps the old key, is logged once, and hurts no other', async (t) => {
  const dir = keyDirectory(t, { 'a.pem': pemOf(ed25519()) })
  const { ring, kids, lines } = await open(t, dir)
  const before = ring.select({ algorithm: 'EdDSA', keyId: 'a' })
  writeFileSync(join(dir, 'a.pem'), 'half a ke')
  writeFileSync(join(dir, 'b.pem'), pemOf(ed25519()))
  writeFileSync(join(dir, 'c.jwk'), '{"kty":')
  await ring.reload()
  await ring.reload()
  t.strictSame(kids(), ['a', 'b'])
  t.ok(ring.has(before))
  const errors = lines.filter(({ level }) => level === 50)
  t.match(errors, [{ path: join(dir, 'a.pem') }, { path: join(dir, 'c.jwk') }])
  t.equal(errors.length, 2)
  writeFileSync(join(dir, 'a.pem'), pemOf(ed25519()))
  await ring.reload()
  t.notOk(ring.has(before), 'mended')
  t.ok(isKnown(ring, 'a'))
})

t.test('a private key beside the public ones is refused by name', async (t) => {
  const secret = ed25519().privateKey.export({ type: 'pkcs8', format: 'pem' })
  const dir = keyDirectory(t, { 'a.pem': String(secret), 'b.pem': pemOf(ed25519()) })
  const { kids, lines } = await open(t, dir)
  t.strictSame(kids(), ['b'])
  t.match(lines[0], { level: 50, path: join(dir, 'a.pem'), reason: /private key/ })
})

t.test('a directory that is away, or unreadable, keeps the keys', async (t) => {
  const dir = keyDirectory(t)
  const keys = join(dir, 'keys')
  mkdirSync(keys)
  writeFileSync(join(keys, 'a.pem'), pemOf(ed25519()))
  const { ring, kids, messages } = await open(t, keys)
  renameSync(keys, join(dir, 'away'))
  await ring.reload()
  await ring.reload()
  t.strictSame(kids(), ['a'])
  t.equal(messages().filter((text) => text.includes('cannot be read')).length, 1)
  mkdirSync(keys)
  await ring.reload()
  t.strictSame(kids(), [], 'an empty one has none')
})

t.test('a link that is swapped is followed, as Kubernetes mounts secrets', async (t) => {
  const dir = keyDirectory(t)
  for (const version of ['..1', '..2']) {
    mkdirSync(join(dir, version))
    writeFileSync(join(dir, version, 'a.pem'), pemOf(ed25519()))
  }
  symlinkSync('..1', join(dir, '..data'))
  symlinkSync('..data/a.pem', join(dir, 'a.pem'))
  const { ring } = await open(t, dir)
  const first = ring.select(EDDSA)
  symlinkSync('..2', join(dir, '..tmp'))
  renameSync(join(dir, '..tmp'), join(dir, '..data'))
  await ring.reload()
  t.notOk(ring.has(first))
  rmSync(join(dir, '..data'))
  await ring.reload()
  t.notOk(isKnown(ring, 'a'), 'a link to nowhere is no file')
})

t.test('two keys of one kid: the first by name counts, and it is logged once', async (t) => {
  const [one, two] = [ed25519(), ed25519()]
  const dir = keyDirectory(t, {
    '1.jwk': jwkText(one, { kid: 'a' }),
    '2.jwk': jwkText(two, { kid: 'a' }),
  })
  const { ring, messages } = await open(t, dir)
  t.strictSame(
    ring.select(EDDSA).key.export({ format: 'jwk' }),
    one.publicKey.export({ format: 'jwk' }),
  )
  await ring.reload()
  t.equal(messages().filter((text) => text.includes('another one has its kid')).length, 1)
})

t.test('a JWK set: keys of other kinds are left out, changes are seen', async (t) => {
  const dir = keyDirectory(t)
  const file = join(dir, 'keys.json')
  const [a, b] = [
    { ...jwkOf(ed25519()), kid: 'a' },
    { ...jwkOf(p256()), kid: 'b' },
  ]
  const rsa = { kty: 'RSA', n: 'AQAB', e: 'AQAB', kid: 'c' }
  writeFileSync(file, setOf(a, b, rsa, { kty: 'oct', k: 'AAAA', kid: 'c' }))
  const { ring, kids, lines } = await open(t, file)
  t.strictSame(kids(), ['a', 'b'])
  t.equal(lines.filter(({ level }) => level === 40).length, 2)
  writeFileSync(file, '{"keys": [')
  await ring.reload()
  t.strictSame(kids(), ['a', 'b'], 'broken')
  writeFileSync(file, '{"keys": 7}')
  await ring.reload()
  t.strictSame(kids(), ['a', 'b'], 'no set')
  unlinkSync(file)
  await ring.reload()
  t.strictSame(kids(), ['a', 'b'], 'missing')
  writeFileSync(file, setOf(b))
  await ring.reload()
  t.strictSame(kids(), ['b'])
  writeFileSync(file, setOf())
  await ring.reload()
  t.strictSame(kids(), [])
})

t.test('what cannot be read at all is no start', async (t) => {
  const dir = keyDirectory(t, { 'keys.json': 'nonsense', 'large.json': ' '.repeat(300 * 1024) })
  const { logger } = recordingLogger()
  const message = /^cannot read the keys of signed tickets: /
  await t.rejects(KeyRing.open(join(dir, 'nothing'), logger), { message })
  await t.rejects(KeyRing.open(join(dir, 'keys.json'), logger), { message })
  await t.rejects(KeyRing.open(join(dir, 'large.json'), logger), {
    message: /more than 262144 bytes/,
  })
  await t.rejects(KeyRing.open('/dev/null', logger), { message })
})

t.test('a directory without keys starts, with a warning', async (t) => {
  const { kids, messages } = await open(t, keyDirectory(t))
  t.strictSame(kids(), [])
  t.strictSame(messages(), ['there are no keys of signed tickets'])
})

t.test('the user who goes on must be able to read them', async (t) => {
  const dir = keyDirectory(t, { 'a.pem': pemOf(ed25519()) })
  const { ring, kids } = await open(t, dir)
  await ring.proveAccess()
  t.strictSame(kids(), ['a'])
  rmSync(dir, { recursive: true })
  await t.rejects(ring.proveAccess(), { message: /^cannot read the keys of signed tickets/ })
  t.strictSame(kids(), ['a'])
})
