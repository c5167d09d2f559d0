import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import t from 'tap'
import { logSettings } from '../../core/config/logging.js'
import { loadDaemonConfig } from '../../daemon/config.js'
import { loadProxyConfig } from '../../proxy/config.js'

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0

/** The project's limit; 10 is a service without any confinement. */
const MAX_EXPOSURE = 3.5

t.test(
  'every unit is confined as far as promised',
  { skip: !hasSystemd && 'systemd-analyze is not installed' },
  async (t) => {
    for (const unit of readdirSync('systemd').filter((name) => name.endsWith('.service'))) {
      const args = ['security', '--offline=true', '--no-pager', `systemd/${unit}`]
      const { stdout } = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
      const exposure = Number(/exposure level[^:]*: (\d+\.\d+)/.exec(stdout)?.[1])
      t.ok(exposure <= MAX_EXPOSURE, `${unit}: ${exposure}`)
    }
  },
)

t.test('block devices stay usable', async (t) => {
  const unit = readFileSync('systemd/imageio-daemon.service', 'utf8')
  t.match(unit, /^DeviceAllow=block-\* rw$/m)
  t.match(unit, /^PrivateDevices=no$/m)
})

t.test('daemon and proxy run side by side as shipped', async (t) => {
  const noTls = '[tls]\nenable = false\n'
  const places = readFileSync('systemd/imageio-proxy.conf', 'utf8')
  const dir = t.testdir({
    daemon: { 'conf.d': { '50-host.conf': noTls } },
    proxy: { 'conf.d': { '10-places.conf': places, '50-proxy.conf': noTls } },
  })
  const daemon = loadDaemonConfig(`${dir}/daemon`).config
  const { config: proxy, warnings } = loadProxyConfig(`${dir}/proxy`)
  t.strictSame(warnings, [])
  t.not(proxy.remote.port, daemon.remote.port)
  t.not(proxy.control.socket, daemon.control.socket)
  t.notSame(logSettings(proxy).destination, logSettings(daemon).destination)
  t.notOk(proxy.local.enable, 'there is one local socket')

  for (const [name, config] of Object.entries({ daemon, proxy })) {
    const unit = readFileSync(`systemd/imageio-${name}.service`, 'utf8')
    const runDir = `/run/${/^RuntimeDirectory=(.*)$/m.exec(unit)?.[1] ?? ''}`
    t.equal(config.daemon.run_dir, runDir)
    t.equal(dirname(config.control.socket), runDir)
    // With User=root these give the directory to root at each start.
    t.notMatch(unit, /^(Logs|State)Directory=/m)
  }
  const written = [proxy.signed_tickets.revocations_file, pathOf(logSettings(proxy))].map(dirname)
  const unit = readFileSync('systemd/imageio-proxy.service', 'utf8')
  const writable = /^ReadWritePaths=(.*)$/m.exec(unit)?.[1]?.split(' ')
  const made = readFileSync('systemd/imageio.tmpfiles.conf', 'utf8')
  for (const path of written) {
    t.ok(writable?.includes(`-${path}`), path)
    t.match(made, new RegExp(`^d ${path} +07[05][05] ovirtimg ovirtimg`, 'm'))
  }
  t.match(unit, '-c /etc/ovirt-imageio-proxy\n')
})

function pathOf({ destination }: ReturnType<typeof logSettings>): string {
  return destination.kind === 'file' ? destination.path : ''
}
