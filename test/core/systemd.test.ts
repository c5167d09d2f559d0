import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { notify, ready, stopping, watchdog } from '../../core/systemd.js'

const SOCKET = '/run/systemd/notify'

function recorder(): { sent: string[]; send: (path: string, message: string) => void } {
  const sent: string[] = []
  return { sent, send: (path, message) => void sent.push(`${path} ${message}`) }
}

t.test('nothing is sent without a manager', async (t) => {
  const { sent, send } = recorder()
  t.equal(ready({}, send), false)
  t.equal(stopping({ NOTIFY_SOCKET: '' }, send), false)
  t.strictSame(sent, [])
})

t.test('states go to the socket of the environment', async (t) => {
  const { sent, send } = recorder()
  const env = { NOTIFY_SOCKET: SOCKET }
  t.equal(ready(env, send), true)
  t.equal(stopping(env, send), true)
  t.equal(notify('STATUS=two connections', env, send), true)
  t.strictSame(sent, [
    `${SOCKET} READY=1`,
    `${SOCKET} STOPPING=1`,
    `${SOCKET} STATUS=two connections`,
  ])
})

t.test('the watchdog is fed at once and twice per period, until it is ended', async (t) => {
  const { sent, send } = recorder()
  const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '100000', WATCHDOG_PID: `${process.pid}` }
  const start = performance.now()
  const end = watchdog(env, send)
  t.equal(sent.length, 1)
  await sleep(260)
  end()
  const beats = sent.length
  const most = 1 + (performance.now() - start) / 45 // every 50 ms; a timer may be early by one or two
  t.ok(beats >= 3 && beats <= most, `${beats} beats`)
  t.strictSame([...new Set(sent)], [`${SOCKET} WATCHDOG=1`])
  await sleep(120)
  t.equal(sent.length, beats)
})

t.test('the watchdog sleeps unless the manager asked this process for it', async (t) => {
  const { sent, send } = recorder()
  const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '100000' }
  for (const other of [
    { ...env, WATCHDOG_PID: '1' },
    { ...env, WATCHDOG_USEC: undefined },
    { ...env, WATCHDOG_USEC: '0' },
    { ...env, WATCHDOG_USEC: 'soon' },
    { ...env, NOTIFY_SOCKET: undefined },
  ]) {
    watchdog(other, send)()
  }
  t.strictSame(sent, [])
})

t.test('a beat that fails does not end the process', async (t) => {
  const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '20000' }
  let tries = 0
  const end = watchdog(env, () => {
    tries++
    throw new Error('the queue is full')
  })
  await sleep(50)
  end()
  t.ok(tries > 1)
})

const RECEIVER = `
import socket, sys
name = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(("\\0" + name[1:]) if name[0] == "@" else name)
print("bound", flush=True)
print(s.recv(4096).decode(), flush=True)
`

t.test('a real socket receives the datagram, by path and by abstract name', async (t) => {
  const path = join(shortDir(t), 'notify')
  for (const name of [path, `@imageio-test-${process.pid}`]) {
    const receiver = spawn('python3', ['-c', RECEIVER, name], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    receiver.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      if (text === '') ready({ NOTIFY_SOCKET: name })
      text += chunk
    })
    await new Promise((resolve) => receiver.on('close', resolve))
    t.equal(text, 'bound\nREADY=1\n', name)
  }
})

t.test('a socket that does not exist is an error with the call', async (t) => {
  const path = join(shortDir(t), 'nobody')
  t.throws(() => ready({ NOTIFY_SOCKET: path }), { code: 'ENOENT' })
})

/** A socket's path has 107 bytes at most, t.testdir() may be longer. */
function shortDir(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return dir
}
