import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { logSettings } from '../../core/config/logging.js'
import { showConfig } from '../../core/config/server.js'
import { loadDaemonConfig, schema, splitPaths } from '../../daemon/config.js'

const NO_TLS = '[tls]\nenable = no\n'

function load(t: Test, text: string) {
  const dir = t.testdir({ 'conf.d': { 'a.conf': text } })
  return loadDaemonConfig(dir, join(dir, 'vendor'))
}

function refused(t: Test, text: string, message: RegExp): void {
  t.throws(() => load(t, text), { code: 'ERR_CONFIG', message }, text)
}

t.test('TLS without key or certificate is refused', async (t) => {
  refused(t, '', /\[tls\] key_file: must name a file/)
  refused(t, '[tls]\nkey_file =\ncert_file = /c\n', /a\.conf:2: \[tls\] key_file: must name a file/)
  refused(t, '[tls]\nkey_file = /k\n', /\[tls\] cert_file: must name a file/)
  t.equal(load(t, '[tls]\nkey_file = /k\ncert_file = /c\n').config.tls.enable, true)
  t.equal(load(t, NO_TLS).config.tls.enable, false)
})

t.test('TLS 1.1 is warned of by file and line, and stays off', async (t) => {
  const { warnings } = load(t, `${NO_TLS}enable_tls1_1 = true\n`)
  t.match(warnings, [/a\.conf:3: \[tls\] enable_tls1_1: ignored, TLS 1\.2 is the minimum$/])
  t.strictSame(load(t, `${NO_TLS}enable_tls1_1 = false\n`).warnings, [])
})

t.test('ports are from 0 to 65535', async (t) => {
  const port = (value: string): number =>
    load(t, `${NO_TLS}[remote]\nport = ${value}\n`).config.remote.port
  t.equal(port('0'), 0)
  t.equal(port('65535'), 65535)
  for (const value of ['-1', '65536', '']) {
    refused(t, `${NO_TLS}[remote]\nport = ${value}\n`, /\[remote\] port: must be an integer/)
  }
})

t.test('the control service over tcp needs a port, over unix it does not', async (t) => {
  refused(t, `${NO_TLS}[control]\ntransport = tcp\n`, /\[control\] port: must be from 0 to 65535/)
  refused(t, `${NO_TLS}[control]\ntransport = udp\n`, /\[control\] transport: must be one of unix/)
  const tcp = load(t, `${NO_TLS}[control]\ntransport = TCP\nport = 0\n`).config.control
  t.match(tcp, { transport: 'tcp', port: 0 })
  const off = load(t, `${NO_TLS}[control]\ntransport = tcp\nenable = no\n`).config.control
  t.match(off, { enable: false, port: -1 })
})

t.test('the control service over tls needs a port, an authority and names', async (t) => {
  const needs = {
    port: 'port = 1',
    ca_file: 'ca_file = /ca',
    allowed_clients: 'allowed_clients = a',
  }
  const on = '[tls]\nkey_file = /k\ncert_file = /c\n'
  for (const key of Object.keys(needs)) {
    const given = Object.entries(needs).flatMap(([name, line]) => (name === key ? [] : [line]))
    const text = `${on}[control]\ntransport = tls\n${given.join('\n')}\n`
    refused(t, text, new RegExp(`\\[control\\] ${key}: must .* while transport is tls`))
  }
  const all = `[control]\ntransport = tls\n${Object.values(needs).join('\n')}\n`
  refused(t, `${NO_TLS}${all}`, /\[tls\] enable: must be on/)
  t.match(load(t, `${on}${all}`).config.control, { transport: 'tls', host: '::' })
})

t.test('signed tickets need a fence around what they may name', async (t) => {
  const signed = `${NO_TLS}[signed_tickets]\nenable = on\nkeys = /keys\naudience = host\n`
  refused(t, signed, /\[backend_file\] allowed_paths: must name directories while/)
  refused(t, `${signed}[backend_file]\nallowed_paths = :\n`, /allowed_paths/)
  const { config } = load(t, `${signed}[backend_file]\nallowed_paths = /images\n`)
  t.match(config.signed_tickets, { enable: true, allow_nbd: false })
})

t.test('buffers fit their backend, and the memory for all of them', async (t) => {
  const buffer = (section: string, size: number): string =>
    `${NO_TLS}[${section}]\nbuffer_size = ${size}\n`
  refused(t, buffer('backend_file', 0), /\[backend_file\] buffer_size/)
  refused(t, buffer('backend_file', 8192 + 512), /a multiple of 4096/)
  refused(t, buffer('backend_nbd', 33554433), /at most 33554432/)
  t.equal(load(t, buffer('backend_nbd', 33554432)).config.backend_nbd.buffer_size, 33554432)
  refused(
    t,
    `${buffer('backend_file', 33554432)}[limits]\nbuffer_memory = 16777216\n`,
    /\[limits\] buffer_memory: must hold at least one \[backend_file\] buffer_size/,
  )
})

t.test('times are within what a timer can wait', async (t) => {
  const timeout = (value: number): string => `${NO_TLS}[daemon]\ninactivity_timeout = ${value}\n`
  t.equal(load(t, timeout(2147483)).config.daemon.inactivity_timeout, 2147483)
  refused(t, timeout(2147484), /at most 2147483/)
  refused(t, timeout(0), /at least 1/)
})

t.test('allowed paths are absolute directories between colons', async (t) => {
  const text = `${NO_TLS}[backend_file]\nallowed_paths = /srv/../data/ : /dev::\n`
  t.strictSame(splitPaths(load(t, text).config.backend_file.allowed_paths), ['/data', '/dev'])
  t.strictSame(splitPaths(''), [])
  t.strictSame(splitPaths('/'), ['/'])
  refused(t, `${NO_TLS}[backend_file]\nallowed_paths = /a:b\n`, /must be absolute directories/)
})

t.test('options and sections of older releases are warned of, not refused', async (t) => {
  const { warnings } = load(t, `${NO_TLS}[daemon]\nbuffer_size = 1\n[images]\nport = 1\n`)
  t.match(warnings, [/\[daemon\] buffer_size: unknown option/, /\[images\] port: unknown section/])
})

t.test('log settings come with the configuration', async (t) => {
  const text = `${NO_TLS}[handlers]\nkeys=stderr\n[logger_root]\nhandlers=stderr\nlevel=DEBUG\n`
  t.match(logSettings(load(t, text).config), { level: 'debug', destination: { kind: 'stderr' } })
  refused(t, `${NO_TLS}[handler_logfile]\nargs = ()\n`, /\[handler_logfile\] args/)
})

t.test(
  'showConfig prints every section and option with typed values, sections sorted',
  async (t) => {
    const text = showConfig(load(t, NO_TLS).config)
    const shown = JSON.parse(text) as Record<string, Record<string, unknown>>
    t.strictSame(Object.keys(shown), Object.keys(schema).sort())
    for (const [section, options] of Object.entries(schema)) {
      t.strictSame(Object.keys(shown[section]!), Object.keys(options), section)
    }
    t.match(shown, {
      daemon: { poll_interval: 1, drop_privileges: true },
      handler_logfile: { class: 'logging.handlers.RotatingFileHandler' },
      handler_stderr: { class: 'logging.StreamHandler' },
      local: { socket: '\0/org/ovirt/imageio' },
      logger_root: { propagate: 0, level: 'INFO' },
      remote: { port: 54322 },
      tls: { enable: false },
    })
    t.match(text, /\n {2}"remote": \{\n {4}"host": "::",\n/)
    t.ok(text.includes('"\\u0000/org/ovirt/imageio"'))
  },
)

const docs = readFileSync(new URL('../../../docs/configuration.md', import.meta.url), 'utf8')

t.test('the documentation lists every section and option with type and default', async (t) => {
  const documented: Record<string, Record<string, string>> = {}
  let section: Record<string, string> | undefined
  for (const line of docs.split('\n')) {
    const heading = /^#+ (.*)$/.exec(line)?.[1]
    if (heading !== undefined) {
      const name = /^\[(\w+)\]$/.exec(heading)?.[1]
      section = name === undefined ? undefined : (documented[name] = {})
    }
    const [, key, type, value] = /^\| `(\w+)` *\| (\w+) *\| (.*?) *\| /.exec(line) ?? []
    if (section && key !== undefined) section[key] = `${type} ${value}`
  }
  const expected = Object.entries(schema).map(([name, options]) => [
    name,
    Object.fromEntries(
      Object.entries(options).map(([key, option]) => [
        key,
        `${option.type} ${asWritten(option.default)}`,
      ]),
    ),
  ])
  t.strictSame(documented, Object.fromEntries(expected))
})

/** How a default would be written in a file, as the documentation shows it. */
function asWritten(value: string | number | boolean): string {
  return value === '' ? 'empty' : `\`${String(value).replace('\0', '@')}\``
}

t.test('the examples of the documentation load without a warning', async (t) => {
  const examples = docs.slice(docs.indexOf('## Examples')).matchAll(/```ini\n(.*?)```/gs)
  const loaded = Array.from(examples, ([, text]) => load(t, text!))
  t.equal(loaded.length, 3)
  for (const { warnings } of loaded) t.strictSame(warnings, [])
  t.match(loaded[1]?.config.control, { transport: 'tcp', port: 54324 })
  t.equal(logSettings(loaded[2]!.config).destination.kind, 'stderr')
})

t.test('a limit of speed is a number of bytes, and none by default', async (t) => {
  const rate = (line: string): number =>
    load(t, `${NO_TLS}[limits]\n${line}\n`).config.limits.max_bytes_per_second
  t.equal(rate(''), 0)
  t.equal(rate('max_bytes_per_second = 625000000'), 625_000_000)
  const { config } = load(t, `${NO_TLS}[limits]\nmax_bytes_per_second = 5\n`)
  t.match(showConfig(config), '"max_bytes_per_second": 5')
  for (const value of ['-1', '10M', '1.5', '']) {
    const text = `${NO_TLS}[limits]\nmax_bytes_per_second = ${value}\n`
    refused(t, text, /\[limits\] max_bytes_per_second: must be an integer/)
  }
})
