import t from 'tap'
import { HELP, parseOptions, UsageError } from '../../start/options.js'

t.test('without arguments the sample is served to this machine, on a free port', async (t) => {
  t.strictSame(parseOptions([], '/home'), {
    images: [],
    isWritable: false,
    isSparse: false,
    format: undefined,
    bitmap: undefined,
    host: '127.0.0.1',
    port: 0,
    isDaemonOnly: false,
    transfersDir: undefined,
    isVerbose: false,
  })
})

t.test('images are relative to where the user is', async (t) => {
  t.match(parseOptions(['a.img', '/b.img', '../c d.img', '--writable'], '/home/user'), {
    images: ['/home/user/a.img', '/b.img', '/home/c d.img'],
    isWritable: true,
  })
})

t.test('disks of transfers are kept where the user says', async (t) => {
  t.match(parseOptions(['--transfers', 'd'], '/home'), { transfersDir: '/home/d' })
  t.match(parseOptions(['--daemon-only'], '/home'), { isDaemonOnly: true, transfersDir: undefined })
})

t.test('--raw is the short form of a format', async (t) => {
  t.match(parseOptions(['--raw', 'a.qcow2'], '/'), { format: 'raw' })
  t.match(parseOptions(['--format', 'raw', 'a.qcow2'], '/'), { format: 'raw' })
  t.match(parseOptions(['--raw', '--format', 'raw', 'a.qcow2'], '/'), { format: 'raw' })
  t.match(parseOptions(['--format', 'vpc', '--bitmap', 'b', 'a'], '/'), {
    format: 'vpc',
    bitmap: 'b',
  })
})

t.test('every option is in the help', async (t) => {
  t.equal(parseOptions(['-h', 'a.img'], '/'), 'help')
  const names = [
    'writable',
    'sparse',
    'raw',
    'format',
    'bitmap',
    'host',
    'port',
    'verbose',
    'help',
    'transfers',
    'daemon-only',
  ]
  for (const name of names) t.match(HELP, `--${name}`)
})

t.test('a mistake is told in one line', async (t) => {
  for (const argv of [['--port', '-4'], ['--port'], ['--frobnicate'], ['--writable=yes']]) {
    t.throws(() => parseOptions(argv, '/'), { message: /^[^\n]*[^\n.]$/ }, argv.join(' '))
  }
})

t.test('what makes no sense is a usage error', async (t) => {
  for (const argv of [
    ['--frobnicate'],
    ['--transfers', ''],
    ['--daemon-only', '--transfers', 'd'],
    ['--port', 'http'],
    ['--port', '65536'],
    ['--port=-1'],
    ['--port'],
    ['--host', 'a b'],
    ['--host', ''],
    ['--host', 'a\nb'],
    [''],
    ['--format', 'nbd', 'a.img'],
    ['--format', '', 'a.img'],
    ['--raw', '--format', 'qcow2', 'a.img'],
    ['--raw', '--bitmap', 'b', 'a.img'],
    ['--bitmap', '', 'a.qcow2'],
    ['--raw'],
    ['--format', 'qcow2'],
    ['--bitmap', 'b'],
  ]) {
    t.throws(() => parseOptions(argv, '/'), { name: UsageError.name }, argv.join(' '))
  }
})
