import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import t from 'tap'
import { loadTransfersConfig } from '../../transfers/config.js'
import { domainsOf, hostsOf, proxyOf } from '../../transfers/inventory.js'
import { testPki } from '../support/pki.js'

const NO_TLS = '[tls]\nenable = no\n[handlers]\nkeys = stderr\n[logger_root]\nhandlers = stderr\n'
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

function load(text: string, tls = NO_TLS) {
  const dir = t.testdir({ 'conf.d': { 'a.conf': tls + text } })
  return loadTransfersConfig(dir, '/nonexistent')
}

t.test('without options there is the daemon of this machine, and one storage domain', async (t) => {
  const { config, warnings } = load('[transfers]\nhost_name = h1\n')
  t.same(warnings, [])
  const [host, ...others] = hostsOf(config)
  t.match(host, {
    id: UUID,
    name: 'h1',
    address: 'h1',
    control: { socketPath: '/run/ovirt-imageio/sock' },
    transferUrl: 'https://h1:54322',
    hasNbdServers: true,
  })
  t.same(others, [])
  t.equal(proxyOf(config), undefined)
  const [domain] = domainsOf(config)
  t.match(domain, { id: UUID, name: 'default', path: '/var/lib/ovirt-imageio/images' })
})

t.test('who waits may not take all connections of an address', async (t) => {
  t.throws(() => load('[transfers]\nmax_connections_per_address = 192\n'), /more than .* 192/)
  const few = 'max_waiting_per_address = 1\nmax_event_streams_per_address = 0\n'
  const { warnings } = load(`[transfers]\nmax_connections_per_address = 2\n${few}`)
  t.same(warnings, [])
})

t.test('ids that are not given are the same each time, and differ', async (t) => {
  const text = '[storage_domain_a]\npath = /a\n[storage_domain_b]\npath = /b\n'
  const ids = () => domainsOf(load(text).config).map(({ id }) => id)
  t.same(ids(), ids())
  t.equal(new Set(ids()).size, 3)
})

t.test('sections add hosts, storage domains and a proxy', async (t) => {
  const { config, warnings } = load(`
[transfers]
local_host = no
storage_dir =
proxy_control_socket = /run/proxy/sock
proxy_url = https://proxy:54323
[host_two]
id = 456
control_socket = /run/two/sock
transfer_url = https://[::1]:54322
hardware_id = abc
[storage_domain_fast]
id = fast-1
path = /srv/fast
`)
  t.same(warnings, [])
  t.same(hostsOf(config), [
    {
      ...{ id: '456', name: 'two', address: '::1', hardwareId: 'abc', hasNbdServers: true },
      control: { socketPath: '/run/two/sock' },
      transferUrl: 'https://[::1]:54322',
    },
  ])
  t.same(domainsOf(config), [{ id: 'fast-1', name: 'fast', path: '/srv/fast' }])
  const control = { socketPath: '/run/proxy/sock' }
  t.same(proxyOf(config), { control, url: 'https://proxy:54323' })
})

t.test(
  'a host elsewhere is controlled over TLS, and has no NBD servers of this machine',
  async (t) => {
    const { caFile, certFile, keyFile } = testPki()
    const { config } = load(`
[transfers]
local_host = no
control_ca_file = ${caFile}
control_cert_file = ${certFile}
control_key_file = ${keyFile}
[host_far]
control_url = https://far:54324
transfer_url = https://far:54322
`)
    const [host] = hostsOf(config)
    t.match(host, { name: 'far', address: 'far', hasNbdServers: false })
    const [ca, cert, key] = [caFile, certFile, keyFile].map((file) => readFileSync(file))
    t.same(host?.control, { host: 'far', port: 54324, tls: { ca, cert, key } })
  },
)

t.test('certificates that cannot be used are named', async (t) => {
  const { caFile, certFile } = testPki()
  const { keyFile } = testPki('other')
  const host = '[host_far]\ncontrol_url = https://far:1\ntransfer_url = https://far:2\n'
  const withKey = (key: string, ca = caFile) =>
    `[transfers]\ncontrol_ca_file = ${ca}\ncontrol_cert_file = ${certFile}\ncontrol_key_file = ${key}\n`
  t.throws(() => hostsOf(load(withKey(keyFile) + host).config), {
    message: /cannot use key .* with/,
  })
  t.throws(() => hostsOf(load(withKey('/none') + host).config), { message: /\/none/ })
  t.throws(() => hostsOf(load(withKey(keyFile, '/no-ca') + host).config), { message: /\/no-ca/ })
})

t.test('what cannot work keeps the service from starting, and is named', async (t) => {
  for (const [text, message] of [
    ['[transfers]\nport = 70000\n', /\[transfers\] port: must be an integer/],
    ['[transfers]\ndatabase = mysql://x\n', /\[transfers\] database: must be/],
    ['[transfers]\ntransfer_url = https://h/images\n', /\[transfers\] transfer_url: must be/],
    ['[transfers]\nproxy_url = https://p:1\n', /\[transfers\] proxy_url: goes together/],
    ['[transfers]\nproxy_control_socket = /p\n', /\[transfers\] proxy_url: goes together/],
    ['[transfers]\nticket_renewal = 300\n', /\[transfers\] ticket_renewal: must be less/],
    [
      '[transfers]\nlease_timeout = 20\n',
      /\[transfers\] lease_timeout: must be at least 30, three/,
    ],
    [
      '[transfers]\nlease_timeout = 14\n',
      / lease_timeout: must be at least 30, three times control_timeout$/m,
    ],
    [
      '[transfers]\nlease_timeout = 14\ncontrol_timeout = 2\n',
      / lease_timeout: must be at least 15$/m,
    ],
    [
      '[transfers]\ncontrol_timeout = 0\n',
      / control_timeout: must be an integer, at least 1, at most 2/,
    ],
    [
      '[transfers]\npoll_interval = 0\n',
      / poll_interval: must be a number, at least 0.01, at most 60/,
    ],
    ['[transfers]\nlocal_host = no\n', /\[transfers\] local_host: must be on/],
    ['[transfers]\nstorage_dir =\n', /\[transfers\] storage_dir: must be given/],
    ['[host_a]\ntransfer_url = https://a\n', /\[host_a\] control_url: or control_socket/],
    ['[host_a]\ncontrol_socket = /a\n', /\[host_a\] transfer_url: must be given/],
    ['[transfers]\nusername =\n', /\[transfers\] username: must be a name/],
    ['[transfers]\nusername = a:b\n', /\[transfers\] username: must be a name/],
    ['[transfers]\ninstance =\n', /\[transfers\] instance: must be a name/],
    ['[transfers]\nrun_dir =\n', /\[transfers\] run_dir: must be an absolute path/],
    ['[transfers]\npassword_file =\n', /\[transfers\] password_file: must be an absolute/],
    ['[transfers]\ncontrol_socket =\n', /\[transfers\] control_socket: must be an absolute/],
    ['[transfers]\ncontrol_socket = sock\n', /\[transfers\] control_socket: must be an absolute/],
    [`[host_a]\ncontrol_socket = /${'a'.repeat(107)}\n`, /\[host_a\] control_socket: .* 107 bytes/],
    ['[transfers]\nhost_name = a b\n', /\[transfers\] transfer_url: must be given, as "a b"/],
    ['[host_a]\nid = a/b\n', /\[host_a\] id: must be letters/],
    ['[storage_domain_a]\nid = a\n', /\[storage_domain_a\] path: must be given/],
  ] as const) {
    t.throws(() => load(text), { code: 'ERR_CONFIG', message }, text)
  }
  t.throws(() => load('', '[tls]\nenable = yes\n'), { message: /\[tls\] key_file/ })
})

t.test('hosts and domains with one name or one id are refused, and both named', async (t) => {
  const host = (name: string, id: string) =>
    `[host_${name}]\nid = ${id}\ncontrol_socket = /${name}\ntransfer_url = https://${name}\n`
  const domain = (name: string, id: string) =>
    `[storage_domain_${name}]\nid = ${id}\npath = /${name}\n`
  const local = '[transfers]\nhost_name = h1\nhost_id = 1\n'
  for (const [text, message] of [
    [host('a', '456') + host('b', '456'), /\[host_b\] id: 456 is also the id of \[host_a\] id: /],
    [local + host('b', '1'), /\[host_b\] id: 1 is also the id of \[transfers\] host_id: /],
    [local + host('h1', '2'), /\[host_h1\] name: h1 is also the name of \[transfers\] host_name: /],
    [
      `[transfers]\n${host(hostname(), '')}`,
      / is also the name of \[transfers\] host_name: rename/,
    ],
    [domain('a', '7') + domain('b', '7'), /\[storage_domain_b\] id: 7 is also the id of/],
    [
      domain('default', 'x'),
      /default\] name: default is also the name of \[transfers\] storage_dir/,
    ],
    [
      domain('a', '36ab2264-c4fe-85ea-9cdc-4bb52f9626c0'),
      /\[storage_domain_a\] id: 36ab.* is also the id of \[transfers\] storage_dir: each .* its own/,
    ],
  ] as const) {
    t.throws(() => load(text), { code: 'ERR_CONFIG', message }, text)
  }
  const both = local + host('h1', '') + host('b', '1')
  t.throws(() => load(both), { message: /\[host_h1\] name/ }, 'all are told')
  t.throws(() => load(both), { message: /\[host_b\] id/ })
  t.doesNotThrow(() => load(local + host('a', '') + host('b', '') + domain('h1', '1')))
})

t.test('tickets do not go to control services in the clear', async (t) => {
  for (const host of ['two.example:54324', '192.0.2.1', '127.example', 'localhost.example']) {
    const far = `[host_a]\ntransfer_url = https://a\ncontrol_url = http://${host}\n`
    t.throws(() => load(far), { message: /control_url: .*http only for 127\.0\.0\.1/ }, host)
  }
})

t.test('a URL is that of a server, and no more', async (t) => {
  const options = [
    ['[transfers]', 'transfer_url'],
    ['[transfers]\nproxy_control_socket = /p', 'proxy_url'],
    ['[transfers]\nproxy_url = https://p', 'proxy_control_url'],
    ['[host_a]\ntransfer_url = https://a', 'control_url'],
    ['[host_a]\ncontrol_socket = /a', 'transfer_url'],
  ] as const
  for (const [section, key] of options) {
    const plain = key.includes('control')
      ? ['http://localhost:1', 'http://[::1]:1/']
      : ['http://h:1/']
    for (const good of ['https://h', ...plain, 'https://[::1]:54322', 'HTTPS://h.example.']) {
      t.doesNotThrow(() => load(`${section}\n${key} = ${good}\n`), `${key} = ${good}`)
    }
    for (const bad of [
      ...[
        'h',
        'h:1',
        'https:',
        'https://',
        'https:h',
        'https:/h',
        'https:\\\\h',
        'ftp://h',
        '://h',
      ],
      ...[
        'https://h/images',
        'https://h//',
        'https://h?a',
        'https://h/?',
        'https://h#a',
        'https://h/#',
      ],
      ...[
        'https://u@h',
        'https://u:p@h',
        'https://:p@h',
        'https://@h',
        'https://h:0',
        'https://h:x',
      ],
      ...[
        'https://h:65536',
        'https://h:-1',
        'https://a b',
        'https://-',
        'https://*',
        'https://[::1',
      ],
      ...['https://1.2.3.256', 'https://h,https://i'],
    ]) {
      const message = new RegExp(`\\] ${key}: must be a URL like https://host:(port|543[0-9]+), `)
      t.throws(() => load(`${section}\n${key} = ${bad}\n`), { message }, `${key} = ${bad}`)
    }
  }
})

t.test('a section of a mistyped kind is told', async (t) => {
  t.match(load('[hots_a]\nid = a\n').warnings, [/\[hots_a\] id: unknown section, ignored/])
})
