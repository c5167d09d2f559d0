import t from 'tap'
import { HELP, parseOptions, UsageError } from '../../bench/options.js'

t.test('without arguments all is measured on tmpfs', async (t) => {
  t.match(parseOptions([]), {
    size: 2 ** 30,
    runs: 5,
    stores: ['/dev/shm'],
    systems: new Set([
      ...['imageio', 'imageio-plain', 'imageio-proxy', 'imageio-proxy-plain', 'nginx', 'haproxy'],
      ...['nbdcopy', 'b2sum', 'nbdinfo', 'qemu-img'],
    ]),
    extents: 1_000_000,
    filter: /(?:)/,
  })
})

t.test('stores and systems may be several', async (t) => {
  const argv = ['--store', '/a', '--store', '/b', '--system', 'imageio', '--system', 'nbdcopy']
  t.match(parseOptions(argv), {
    stores: ['/a', '/b'],
    systems: new Set(['imageio', 'nbdcopy']),
  })
})

t.test('every option is in the help', async (t) => {
  t.equal(parseOptions(['-h']), 'help')
  for (const name of ['size', 'runs', 'store', 'system', 'extents', 'cases', 'help']) {
    t.match(HELP, `--${name}`)
  }
})

t.test('what makes no sense is a usage error', async (t) => {
  for (const argv of [
    ['--size', '0'],
    ['--runs', '-1'],
    ['--extents', 'many'],
    ['--system', 'apache'],
    ['--cases', '('],
    ['--frobnicate'],
    ['word'],
  ]) {
    t.throws(() => parseOptions(argv), { name: UsageError.name }, argv.join(' '))
  }
  t.throws(() => parseOptions(['--system', 'foo']), {
    message: /^--system must be one of imageio, .*, not foo$/,
  })
})
