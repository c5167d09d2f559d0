import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

/** What the script itself needs, all of it in every Debian installation. */
const SHELL_TOOLS = [
  'dirname',
  'tr',
  'grep',
  'paste',
  'mktemp',
  'rm',
  'tail',
  'ls',
  'env',
  'find',
  'cat',
  'mkdir',
]

interface Machine {
  /** A checkout with nothing but the script. */
  readonly dir: string
  /** What apt-get was called with, without options. */
  readonly installed: () => string[]
  readonly run: (goal?: string) => { status: number | null; errors: string }
}

/** A machine that has only the programs given; `apt` is the body of its apt-get. */
function machine(t: Test, programs: readonly string[], { apt = '', uid = 0 } = {}): Machine {
  const dir = t.testdir({ scripts: {}, bin: {} })
  const bin = join(dir, 'bin')
  const calls = join(dir, 'calls')
  const program = (name: string, body: string): void =>
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 })
  for (const name of SHELL_TOOLS) {
    const place = ['/usr/bin', '/bin'].map((path) => join(path, name)).find(existsSync)
    if (place !== undefined) symlinkSync(place, join(bin, name))
  }
  for (const name of programs) program(name, 'exit 0')
  program('id', `echo ${uid}`)
  if (apt !== '') {
    const words = 'for word do case $word in -* | *=*) ;; *) printf "%s " "$word" ;; esac; done'
    program('apt-get', `{ ${words}; echo; } >>${calls}\n${apt}`)
  }
  copyFileSync('scripts/setup.sh', join(dir, 'scripts/setup.sh'))
  return {
    dir,
    installed: () => (existsSync(calls) ? readFileSync(calls, 'utf8').trim().split(/ *\n/) : []),
    run: (goal = 'start') => {
      const env = { PATH: bin }
      const { status, stderr } = spawnSync('/bin/sh', [join(dir, 'scripts/setup.sh'), goal], {
        env,
        encoding: 'utf8',
      })
      return { status, errors: stderr }
    },
  }
}

const BUILD_TOOLS = ['npm', 'c++', 'make', 'python3', 'openssl', 'curl']

t.test('who may not install is told the exact command', async (t) => {
  const { run } = machine(t, ['node', 'npm', 'python3', 'openssl'], { uid: 1000 })
  const { status, errors } = run()
  t.equal(status, 1)
  t.equal(errors, 'imageio: missing: g++ make. Install with: sudo apt-get install g++ make\n')
})

t.test('what is needed is installed by apt', async (t) => {
  // Lists may or may not be there; what counts is that the packages are asked for.
  const { installed, run } = machine(t, ['node', ...BUILD_TOOLS.slice(2), 'npm'], { apt: 'exit 0' })
  const { errors } = run()
  t.match(errors, /^imageio: installing g\+\+$/m)
  t.ok(installed().includes('install g++'))
})

t.test('without network the error says so, after the lists were tried once', async (t) => {
  const apt = 'echo "E: Unable to fetch some archives" >&2; exit 100'
  const { installed, run } = machine(t, ['node', 'npm', 'make', 'python3', 'openssl'], { apt })
  const { status, errors } = run()
  t.equal(status, 1)
  t.match(errors, 'E: Unable to fetch some archives')
  t.match(errors, /^imageio: apt cannot install g\+\+\. When the network is back: npm start$/m)
  t.equal(installed().filter((call) => call === 'update').length, 1)
})

t.test('optional tools that cannot be had are named, and the others installed', async (t) => {
  const apt = 'case "$*" in *" nbdkit "* | *" nbdkit") exit 100 ;; esac; exit 0'
  // The node here is too old, so nothing is built.
  const { dir, installed, run } = machine(t, BUILD_TOOLS, { apt })
  writeFileSync(join(dir, 'bin/node'), '#!/bin/sh\necho 16\n', { mode: 0o755 })
  mkdirSync(join(dir, '.dev'))
  const first = run('test')
  t.match(
    first.errors,
    /^imageio: optional tools are missing: nbdkit\. Install with: sudo apt-get install nbdkit$/m,
  )
  t.match(first.errors, /^imageio: Node .*16.* is too old/m)
  t.ok(installed().includes('install qemu-utils'), 'the others are installed one by one')
})

t.test('an unknown goal is a usage error', async (t) => {
  t.match(machine(t, []).run('frobnicate'), { status: 2, errors: /^usage: / })
})
