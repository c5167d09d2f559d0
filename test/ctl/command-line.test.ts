import t from 'tap'
import { parseCommandLine, UsageError } from '../../ctl/command-line.js'

const common = { confDir: '/etc/ovirt-imageio', json: false }

t.test('every command is understood, with options on either side of it', async (t) => {
  t.match(parseCommandLine(['add', 'ticket.json']), { ...common, name: 'add', file: 'ticket.json' })
  t.match(parseCommandLine(['-c', '/conf', 'add', '-']), { confDir: '/conf', file: '-' })
  t.match(parseCommandLine(['show', 'id', '--json']), { name: 'show', id: 'id', json: true })
  t.match(parseCommandLine(['list', '--conf-dir', '/conf']), { name: 'list', confDir: '/conf' })
  t.match(parseCommandLine(['delete', 'id']), { ...common, name: 'delete', id: 'id' })
  const modify = { ...common, name: 'modify', id: 'id', timeout: 300 }
  t.match(parseCommandLine(['modify', 'id', '--timeout', '300']), modify)
  t.match(parseCommandLine(['modify', '--timeout', '300', 'id']), modify)
})

t.test('a limit is a number of bytes, with a unit or without, and 0 is none', async (t) => {
  for (const [text, rate] of [
    ['0', 0n],
    ['1000', 1000n],
    ['64K', 65_536n],
    ['10MiB', 10_485_760n],
    ['1G', 1_073_741_824n],
  ] as const) {
    const option = ['--max-bytes-per-second', text]
    const modify = { name: 'modify', id: 'id', timeout: undefined, rate }
    t.match(parseCommandLine(['modify', 'id', ...option]), modify)
    t.match(parseCommandLine(['add', ...option, 'file']), { name: 'add', file: 'file', rate })
  }
  const both = ['modify', 'id', '--timeout', '5', '--max-bytes-per-second', '7']
  t.match(parseCommandLine(both), { timeout: 5, rate: 7n })
})

t.test('the names of the earlier tool mean the same, and show-ticket prints JSON', async (t) => {
  t.match(parseCommandLine(['add-ticket', 'file']), { name: 'add', json: false })
  t.match(parseCommandLine(['show-ticket', 'id']), { name: 'show', json: true })
  t.match(parseCommandLine(['mod-ticket', '--timeout', '0', 'id']), { name: 'modify', timeout: 0 })
  t.match(parseCommandLine(['del-ticket', 'id']), { name: 'delete' })
})

t.test('an id that begins with a dash can be given behind two dashes', async (t) => {
  t.match(parseCommandLine(['show', '--', '-id']), { name: 'show', id: '-id' })
})

t.test('the version is told without a command', async (t) => {
  t.match(parseCommandLine(['--version']), { text: /^imageioctl \d+\.\d+\.\d+\n$/ })
})

t.test('a mistake is told in one line', async (t) => {
  for (const argv of [
    ['modify', 'x', '--timeout', '-4'],
    ['list', '-c'],
    ['list', '--no'],
  ]) {
    t.throws(() => parseCommandLine(argv), { message: /^[^\n]*[^\n.]$/ }, argv.join(' '))
  }
})

t.test('help is printed when asked for, and when nothing was asked for', async (t) => {
  t.match(parseCommandLine([]), { name: 'help', text: /Commands:/ })
  t.match(parseCommandLine(['--help']), { name: 'help', text: /Commands:/ })
  for (const name of ['add', 'show', 'list', 'modify', 'delete']) {
    const text = new RegExp(`^Usage: imageioctl ${name}`)
    t.match(parseCommandLine([name, '--help']), { name: 'help', text })
  }
  t.match(parseCommandLine(['mod-ticket', '-h']), {
    text: /modify ID \[--timeout N\] \[--max-bytes-per-second N\]/,
  })
})

t.test('what makes no sense is a usage error that says why', async (t) => {
  const wrong: [string[], RegExp][] = [
    [['frobnicate'], /unknown command frobnicate/],
    [['--json'], /no command/],
    [['--frobnicate', 'list'], /'--frobnicate'/],
    [['add'], /add: FILE is missing/],
    [['show'], /show: ID is missing/],
    [['show', ''], /ID is missing/],
    [['show', 'a', 'b'], /too many/],
    [['list', 'a'], /too many/],
    [['list', '--timeout', '5'], /belongs to modify/],
    [['modify', 'id'], /--timeout N or --max-bytes-per-second N is missing/],
    [['modify', '--max-bytes-per-second', '-5', 'id'], /max-bytes-per-second/],
    [['modify', '--max-bytes-per-second', '10MB', 'id'], /must be a number of bytes, or one like/],
    [['modify', '--max-bytes-per-second', '1.5M', 'id'], /must be a number of bytes/],
    [['add', '--max-bytes-per-second', '', 'file'], /must be a number of bytes/],
    [['list', '--max-bytes-per-second', '5'], /belongs to add and modify/],
    [['modify', '--timeout', '-5', 'id'], /timeout/],
    [['modify', '--timeout=-5', 'id'], /number of seconds/],
    [['modify', '--timeout', '1.5', 'id'], /number of seconds/],
    [['modify', '--timeout', '', 'id'], /number of seconds/],
    [['modify', '--timeout', '99999999999999999999', 'id'], /number of seconds/],
    [['list', '-c'], /argument missing/],
  ]
  for (const [argv, reason] of wrong) {
    t.throws(
      () => parseCommandLine(argv),
      { name: UsageError.name, message: reason },
      argv.join(' '),
    )
  }
})
