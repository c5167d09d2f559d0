import { spawnSync } from 'node:child_process'
import { readFileSync, readdirSync } from 'node:fs'
import t from 'tap'

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
