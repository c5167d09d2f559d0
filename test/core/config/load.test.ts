import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { loadConfig } from '../../../core/config/load.js'
import { boolean, float, integer, string } from '../../../core/config/schema.js'

const description = 'for the test'
const schema = {
  one: {
    host: string({ default: '::', description }),
    port: integer({ default: 1, min: 0, max: 9, description }),
    wait: float({ default: 0.5, description }),
  },
  two: { enable: boolean({ default: true, description }) },
} as const

type Dir = Record<string, string | Record<string, never>>

/** Writes the files and loads them; `etc` is the administrator's conf.d, `usr` the vendor's. */
function setUp(t: Test, etc: Dir, usr?: Dir) {
  const root = t.testdir({ etc: { 'conf.d': etc }, ...(usr && { usr }) })
  const options = { dir: join(root, 'etc'), vendorDir: join(root, 'usr') }
  return { ...options, load: () => loadConfig(schema, options) }
}

t.test('without an option in the files the defaults hold', async (t) => {
  const { config, warnings, files } = setUp(t, { 'a.conf': '' }).load()
  t.strictSame(config, { one: { host: '::', port: 1, wait: 0.5 }, two: { enable: true } })
  t.strictSame(warnings, [])
  t.equal(files.length, 1)
})

t.test('values have the types of their options', async (t) => {
  const text = '[one]\nhost = a b\nport = 7\nwait = 2\n[two]\nenable = OFF\n'
  const { config } = setUp(t, { 'a.conf': text }).load()
  t.strictSame(config, { one: { host: 'a b', port: 7, wait: 2 }, two: { enable: false } })
})

t.test('the result is frozen through and through', async (t) => {
  const { config } = setUp(t, { 'a.conf': '' }).load()
  t.throws(() => Object.assign(config.one, { port: 2 }), TypeError)
  t.throws(() => Object.assign(config, { one: {} }), TypeError)
})

t.test(
  'later base names override earlier ones, option by option, across directories',
  async (t) => {
    const { config, files } = setUp(
      t,
      { '50-vdsm.conf': '[one]\nhost = vdsm\nport = 5\n', '99-local.conf': '[one]\nwait = 9\n' },
      { '75-vendor.conf': '[one]\nport = 7\nwait = 7\n' },
    ).load()
    t.strictSame(config.one, { host: 'vdsm', port: 7, wait: 9 })
    t.match(files, [/50-vdsm.conf$/, /75-vendor.conf$/, /99-local.conf$/])
  },
)

t.test('with equal base names the administrator wins over the vendor', async (t) => {
  const { config } = setUp(
    t,
    { '50-a.conf': '[one]\nport = 1\n' },
    { '50-a.conf': '[one]\nport = 2\nhost = vendor\n' },
  ).load()
  t.strictSame(config.one, { host: 'vendor', port: 1, wait: 0.5 })
})

t.test('base names are compared byte by byte', async (t) => {
  const port = (value: number): string => `[one]\nport = ${value}\n`
  const { config } = setUp(t, { 'a.conf': port(3), 'Z.conf': port(2), '100.conf': port(1) }).load()
  t.equal(config.one.port, 3)
})

t.test('only visible files ending in .conf are read', async (t) => {
  const bad = 'not a configuration'
  const others = { 'a.conf.disabled': bad, '.a.conf': bad, 'a.conf~': bad, README: bad }
  t.equal(setUp(t, { 'b.conf': '', ...others }).load().files.length, 1)
})

t.test('at least one file of the administrator must exist', async (t) => {
  const message = /conf\.d holds no \*\.conf file/
  t.throws(setUp(t, {}, { 'a.conf': '' }).load, { code: 'ERR_CONFIG', message })
  t.throws(() => loadConfig(schema, { dir: join(t.testdirName, 'missing') }), { message })
})

t.test('what cannot be read is an error that names it', async (t) => {
  t.throws(setUp(t, { 'a.conf': {} }).load, { message: /a\.conf: cannot be read: EISDIR/ })

  const dangling = setUp(t, { 'a.conf': '' })
  symlinkSync('nowhere', join(dangling.dir, 'conf.d', 'b.conf'))
  t.throws(dangling.load, { code: 'ERR_CONFIG', message: /b\.conf: cannot be read: ENOENT/ })

  const latin = t.testdir({ 'conf.d': { 'a.conf': Buffer.from('# \xe9\n', 'latin1') } })
  t.throws(() => loadConfig(schema, { dir: latin }), {
    message: /a\.conf: cannot be read: .*utf-8/,
  })

  const notDirectory = t.testdir({ 'conf.d': '' })
  t.throws(() => loadConfig(schema, { dir: notDirectory }), { message: /conf\.d: cannot be read/ })
})

t.test('a bad value names file, line, section and key', async (t) => {
  t.throws(setUp(t, { 'a.conf': '\n[one]\nport = 10\n' }).load, {
    code: 'ERR_CONFIG',
    message: /a\.conf:3: \[one\] port: must be an integer, at least 0, at most 9, not "10"$/,
  })
})

t.test('all that is wrong is told at once, but what only follows from it', async (t) => {
  const text = '[one]\nport = 10\nwait = x\n[two]\nenable = maybe\n'
  const { dir } = setUp(t, { 'a.conf': text })
  const load = () =>
    loadConfig(schema, {
      dir,
      vendorDir: '/nonexistent',
      check: (_, { fail }) => {
        fail('one', 'host', 'is not mine')
        fail('one', 'host', 'does not go with port', 'port')
        fail('two', 'enable', 'must be off')
      },
    })
  const problems = [
    /^.*a\.conf:2: \[one\] port: must be/,
    /^.*a\.conf:3: \[one\] wait: must be/,
    /^.*a\.conf:5: \[two\] enable: must be true/,
    /\[one\] host: is not mine$/,
  ]
  const config = { one: { port: 1, wait: 0.5 }, two: { enable: true } }
  const expected = { code: 'ERR_CONFIG', findings: { problems, config } }
  t.throws(load, expected)
  t.throws(load, { message: /port: [^\n]*\n[^\n]*wait: [^]* host: is not mine$/ })
})

t.test('a bad value that another file overrides does no harm', async (t) => {
  const files = { '1.conf': '[one]\nport = x\n', '2.conf': '[one]\nport = 2\n' }
  t.equal(setUp(t, files).load().config.one.port, 2)
})

t.test('[DEFAULT] applies to the sections present in the files, below their own', async (t) => {
  const files = {
    '1.conf': '[one]\nport = 2\n',
    '2.conf': '[DEFAULT]\nport = 3\nwait = 4\nx = 1\n',
  }
  const { config, warnings } = setUp(t, { ...files, '3.conf': '[DEFAULT]\nenable = no\n' }).load()
  t.strictSame(config, { one: { host: '::', port: 2, wait: 4 }, two: { enable: true } })
  t.match(warnings, [/2\.conf:4: \[DEFAULT\] x: unknown option, ignored$/])
  t.equal(warnings.length, 1)
})

t.test('unknown options and sections are warnings that name file, section and key', async (t) => {
  const text = '[one]\nprot = 1\n[three]\nport = 2\n[toString]\nname = x\n[two]\nconstructor = y\n'
  const { warnings } = setUp(t, { 'a.conf': text }).load()
  t.match(warnings, [
    /a\.conf:2: \[one\] prot: unknown option, ignored$/,
    /a\.conf:4: \[three\] port: unknown section, ignored$/,
    /a\.conf:6: \[toString\] name: unknown section, ignored$/,
    /a\.conf:8: \[two\] constructor: unknown option, ignored$/,
  ])
})

t.test('a check of several options reports with the place of the one it names', async (t) => {
  const { dir, vendorDir } = setUp(t, { 'a.conf': '[one]\nport = 2\n' })
  const warned = loadConfig(schema, {
    dir,
    vendorDir,
    check: (config, { warn }) => warn('one', 'port', `is ${config.one.port}`),
  })
  t.match(warned.warnings, [/a\.conf:2: \[one\] port: is 2$/])
  const check = (key: string) => (_: unknown, report: { fail: Fail }) =>
    report.fail('one', key, 'no')
  t.throws(() => loadConfig(schema, { dir, check: check('port') }), {
    code: 'ERR_CONFIG',
    message: /a\.conf:2: \[one\] port: no$/,
  })
  t.throws(() => loadConfig(schema, { dir, check: check('host') }), {
    message: `${dir}: [one] host: no`,
  })
})
type Fail = (section: string, key: string, reason: string) => void

t.test('a secret is neither shown nor told of in errors', async (t) => {
  const redact = (text: string): string => text.replace(/:.*@/, ':***@')
  const accept = (text: string): boolean => text.startsWith('db:')
  const secret = { one: { url: string({ default: '', description, accept, redact }) } } as const
  const good = setUp(t, { 'a.conf': '[one]\nurl = db:secret@h\n' })
  const { config, shown } = loadConfig(secret, good)
  t.strictSame(config, { one: { url: 'db:secret@h' } })
  t.strictSame(shown, { one: { url: 'db:***@h' } })
  const bad = setUp(t, { 'a.conf': '[one]\nurl = bd:secret@h\n' })
  t.throws(() => loadConfig(secret, bad), {
    message: /\[one\] url: must be text, not "bd:\*\*\*@h"$/,
  })
})
