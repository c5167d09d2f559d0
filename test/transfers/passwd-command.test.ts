/** `imageio-transfers passwd` and the help of all programs, as they are run. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { PasswordFile } from '../../transfers/password-file.js'
import { writeConfig } from '../support/daemon.js'

function prepare(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-passwd-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const file = join(dir, 'passwords')
  const transfers = { password_file: file, username: 'me' }
  writeConfig(dir, { tls: { enable: false }, transfers })
  return { dir, users: new PasswordFile(file) }
}

/** Nothing of the environment but where compiled code is kept. */
const { NODE_COMPILE_CACHE: cache } = process.env
const ENVIRONMENT = ['-i', ...(cache === undefined ? [] : [`NODE_COMPILE_CACHE=${cache}`])]

const launch = (program: string, args: readonly string[], input = '') =>
  spawnSync('env', [...ENVIRONMENT, join('bin', program), ...args], { encoding: 'utf8', input })

const passwd = (args: readonly string[], input = '') =>
  launch('imageio-transfers', ['passwd', ...args], input)

t.test('passwd has a help of its own, with options and exit status', async (t) => {
  for (const args of [['--help'], ['-h'], ['-c', '/none', 'user', '--help']]) {
    const { status, stdout, stderr } = passwd(args)
    t.equal(status, 0)
    t.equal(stderr, '')
    t.match(stdout, /^Usage: imageio-transfers passwd \[options\] \[USER\]\n/)
    t.match(stdout, '--conf-dir DIR  directory of conf.d (default: /etc/ovirt-imageio-transfers)')
    t.match(stdout, 'Exit status: 0 the password is set, 1 it is as before, 2 wrong usage.')
  }
})

const NAME = 'a user name has 1 to 128 characters, no colon and no control characters'

t.test('arguments that are not understood are named, and change nothing', async (t) => {
  const { dir, users } = prepare(t)
  for (const [args, reason] of [
    [['--user', 'a'], "Unknown option '--user'"],
    [['-x'], "Unknown option '-x'"],
    [['a', 'b'], 'one user at a time, b is too many'],
    [['a:b'], NAME],
    [[''], NAME],
    [['-c'], "Option '-c, --conf-dir <value>' argument missing"],
  ] as const) {
    const { status, stdout, stderr } = passwd(
      [...args, ...(args[0] === '-c' ? [] : ['-c', dir])],
      'x\n',
    )
    const text = `imageio-transfers passwd: ${reason}\nTry imageio-transfers passwd --help.\n`
    t.match({ status, stdout, stderr }, { status: 2, stdout: '', stderr: text })
  }
  t.equal(await users.version(), 'none')
})

t.test('the password of the configured user, or of the one that is named, is set', async (t) => {
  const { dir, users } = prepare(t)
  t.match(passwd(['-c', dir], 'one\n'), { status: 0, stdout: '', stderr: '' })
  t.match(passwd([`--conf-dir=${dir}`, '--', 'you'], 'two'), { status: 0 })
  t.match(launch('imageio-transfers', ['-c', dir, 'passwd', 'them'], 'three'), { status: 0 })
  t.equal(await users.verify('them', 'three'), true)
  t.equal(await users.verify('me', 'one'), true)
  t.equal(await users.verify('you', 'two'), true)
  t.match(passwd(['-c', dir]), { status: 1, stderr: /passwd: the password is empty\n$/ })
  t.match(passwd(['-c', join(dir, 'none')]), { status: 1, stderr: /no configuration: / })
})

t.test('each program tells its own directory of the configuration', async (t) => {
  const own = {
    'imageio-daemon': '(default: /etc/ovirt-imageio)\n',
    'imageio-proxy':
      /\(default: \/etc\/ovirt-imageio\)\n +\(its unit gives \/etc\/ovirt-imageio-proxy\)\n/,
    'imageio-transfers': '(default: /etc/ovirt-imageio-transfers)\n',
    imageioctl: "(default /etc/ovirt-imageio, the daemon's; the\n",
  }
  for (const [program, text] of Object.entries(own)) {
    t.match(launch(program, ['--help']), { status: 0, stdout: text, stderr: '' })
  }
  t.match(launch('imageio-transfers', ['--help']).stdout, /passwd \[options\] \[USER\]/)
  t.match(launch('imageio-transfers', ['pass']), {
    status: 2,
    stderr: /Unexpected argument 'pass'/,
  })
})
