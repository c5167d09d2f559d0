import t from 'tap'
import { loadProxyConfig } from '../../proxy/config.js'

const NO_TLS = '[tls]\nenable = no\n'

function load(text: string) {
  const dir = t.testdir({ 'conf.d': { 'a.conf': text } })
  return loadProxyConfig(dir)
}

t.test('the files of an ovirt-imageio proxy load', async (t) => {
  const { config, warnings } = load(
    `${NO_TLS}[remote]\nport = 54323\n[daemon]\nmax_connections = 9\n`,
  )
  t.equal(config.remote.port, 54323)
  t.equal(config.proxy.allowed_daemons, '*:54322')
  t.match(warnings, [/\[daemon\] max_connections: unknown option, ignored/])
})

t.test('the buffer size of ovirt-imageio is taken and does nothing', async (t) => {
  const { warnings } = load(`${NO_TLS}[backend_http]\nca_file = /a\nbuffer_size = 8388608\n`)
  t.strictSame(warnings, [])
})

t.test('memory for transfers is bounded, by no less than one of them needs', async (t) => {
  const { config, warnings } = load(NO_TLS)
  t.match(config.limits, { buffer_memory: 1024 ** 3, buffer_wait_timeout: 30 })
  t.strictSame(warnings, [])
  t.equal(
    load(`${NO_TLS}[limits]\nbuffer_memory = 1048576\n`).config.limits.buffer_memory,
    1024 ** 2,
  )
  for (const line of ['buffer_memory = 1048575', 'buffer_wait_timeout = 0']) {
    t.throws(() => load(`${NO_TLS}[limits]\n${line}\n`), { code: 'ERR_CONFIG' })
  }
})

t.test('certificate and key go together', async (t) => {
  for (const [given, missing] of [
    ['cert_file', 'key_file'],
    ['key_file', 'cert_file'],
  ] as const) {
    const text = `${NO_TLS}[backend_http]\n${given} = /a\n`
    t.throws(() => load(text), { message: RegExp(`\\[backend_http\\] ${missing}: `) })
  }
})

t.test('what opens too much, or nothing, is warned of', async (t) => {
  const warningsOf = (text: string) => load(`${NO_TLS}[proxy]\n${text}\n`).warnings
  t.match(warningsOf('allowed_daemons ='), [/\[proxy\] allowed_daemons: is empty/])
  t.match(warningsOf('allowed_daemons = host1 *:*'), [/\[proxy\] allowed_daemons: \*:\* lets/])
  t.match(warningsOf('allow_http = yes'), [/\[proxy\] allow_http: lets .* in the clear/])
  t.strictSame(warningsOf('allowed_daemons = *.hosts.example.com [fd00::1]:54322'), [])
})

t.test('what is no pattern keeps it from starting', async (t) => {
  const text = `${NO_TLS}[proxy]\nallowed_daemons = http://a\n`
  t.throws(() => load(text), { code: 'ERR_CONFIG', message: /must be patterns host or host:port/ })
  const long = `${NO_TLS}[proxy]\nallowed_daemons = host1, host2:x host3\n`
  t.throws(() => load(long), { message: /, not "host2:x"$/ })
})
