/** examples/qmp.py where there is no qemu, or no good command; test/docs/backup.test.ts has the rest. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { without } from '../support/tools.js'

const skip = without('python3')
const STOP = '{"execute": "stop"}'

interface Ended {
  readonly status: number | null
  readonly output: string
  readonly errors: string
}

async function qmp(args: readonly string[], input: string | Buffer = ''): Promise<Ended> {
  const child = spawn('python3', ['examples/qmp.py', ...args])
  child.stdin.on('error', () => undefined).end(input)
  const [output, errors] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ])
  return { status: child.exitCode, output, errors }
}

/** Short, since the path of a socket holds 107 bytes. */
function socketPath(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-qmp-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return join(dir, 'qmp')
}

/** A socket on which `greet` plays the monitor. */
async function monitor(t: Test, greet: (socket: Socket) => void): Promise<string> {
  const path = socketPath(t)
  const server = createServer(greet).listen(path)
  await once(server, 'listening')
  t.teardown(() => void server.close())
  return path
}

t.test('help is asked for, or needed', { skip }, async (t) => {
  t.match(await qmp(['--help']), { status: 0, output: /^Sends commands/, errors: '' })
  t.match(await qmp([]), { status: 2, output: '', errors: /^Sends commands/ })
})

t.test('a socket that is missing, or on which nobody listens', { skip }, async (t) => {
  const path = socketPath(t)
  t.match(await qmp([path], STOP), {
    status: 1,
    errors: `qmp: ${path}: No such file or directory\n`,
  })
  writeFileSync(path, '')
  t.match(await qmp([path], STOP), { status: 1, errors: `qmp: ${path}: Connection refused\n` })
  const long = join(path, 'x'.repeat(200))
  t.match(await qmp([long], STOP), { status: 1, errors: /^qmp: .*too long\n$/ })
})

t.test('what is no command is not sent', { skip }, async (t) => {
  const path = await monitor(t, () => t.fail('nobody calls'))
  for (const input of ['junk', `${STOP} junk`, '[1]', '{"arguments": {}}', Buffer.of(0xff)]) {
    t.match(await qmp([path], input), { status: 1, output: '', errors: /^qmp: [^\n]+\n$/ })
  }
})

t.test('what listens is no qemu, or goes away', { skip }, async (t) => {
  const junk = await monitor(t, (socket) => void socket.end('SSH-2.0\r\n'))
  t.match(await qmp([junk], STOP), { status: 1, errors: /^qmp: [^\n]* no monitor [^\n]*\n$/ })
  const gone = await monitor(t, (socket) => void socket.end('{"QMP": {}}\n'))
  t.match(await qmp([gone], STOP), { status: 1, errors: /^qmp: qemu has hung up[^\n]*\n$/ })
})

t.test('with --all each command is sent, and told how it went', { skip }, async (t) => {
  const answers: Readonly<Record<string, string>> = {
    qmp_capabilities: '{"return": {}}',
    gone: '{"error": {"desc": "it is not found"}}',
    bad: '{"error": {"desc": "it is busy"}}',
    good: '{"event": "ENDED"}\n{"return": {}}',
  }
  const path = await monitor(t, (socket) => {
    socket.write('{"QMP": {}}\n')
    socket.on('data', (data) => {
      const { execute } = JSON.parse(data.toString()) as { execute: string }
      socket.write(`${answers[execute] ?? ''}\n`)
    })
  })
  const gone = '{"execute": "gone", "wait": "NEVER", "unless": "not found"}'
  const good = '{"execute": "good", "wait": "ENDED"}'
  t.strictSame(await qmp(['--all', path], gone + good), {
    status: 0,
    output: 'gone: nothing to do\ngood: done\n',
    errors: '',
  })
  const bad = '{"execute": "bad", "unless": "not found"}'
  t.strictSame(await qmp(['--all', path], bad + good), {
    status: 1,
    output: 'good: done\n',
    errors: 'qmp: bad: it is busy\nqmp: 1 of 2 commands failed\n',
  })
  t.match(await qmp(['--all']), { status: 2 })
})
