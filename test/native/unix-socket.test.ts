import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createConnection, createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { getegid, geteuid, getgroups, pid } from 'node:process'
import t from 'tap'
import type { Test } from 'tap'
import { peerCredentials, sendDatagram } from '../../native/index.js'
import { createFile, memoryDirectory, open } from './files.js'

/** Node tells a socket's descriptor to no one officially. */
function descriptorOf(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { _handle: { fd: number } }
  return handle.fd
}

async function connectedPair(t: Test, address: string | number): Promise<Socket[]> {
  const server = createServer()
  t.teardown(() => server.close())
  server.listen(address)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const client = typeof address === 'string' ? createConnection(address) : createConnection(port)
  const [peer] = await accepted
  t.teardown(() => {
    client.destroy()
    peer.destroy()
  })
  return [client, peer]
}

t.test('both ends of a connection know each other', async (t) => {
  for (const socket of await connectedPair(t, join(memoryDirectory(t), 'socket'))) {
    const { groups, ...ids } = peerCredentials(descriptorOf(socket))
    t.same(ids, { pid, uid: geteuid?.(), gid: getegid?.() })
    // getgroups(2) of Node adds the effective group; the kernel's list need not hold it.
    t.ok(groups.every((group) => getgroups?.().includes(group)))
  }
})

t.test('more groups than a first guess holds are told whole', async (t) => {
  if (geteuid?.() !== 0) {
    t.plan(0, 'setting groups needs root')
    return
  }
  const path = join(memoryDirectory(t), 'socket')
  const server = createServer()
  t.teardown(() => server.close())
  server.listen(path)
  await once(server, 'listening')
  const wanted = Array.from({ length: 200 }, (_, index) => 10_000 + index)
  const script = `
process.setgroups(${JSON.stringify(wanted)})
require('node:net').connect(${JSON.stringify(path)}).on('close', () => process.exit())`
  const child = spawn(process.execPath, ['-e', script], { stdio: 'inherit' })
  const [peer] = (await once(server, 'connection')) as [Socket]
  const { pid, groups } = peerCredentials(descriptorOf(peer))
  t.equal(pid, child.pid)
  t.same(groups.toSorted(), wanted)
  peer.destroy()
  await once(child, 'exit')
})

t.test('what has no peer has no credentials', async (t) => {
  const [client] = await connectedPair(t, 0)
  const errors = { name: 'SystemError', code: /^(ENODATA|ENOPROTOOPT|EOPNOTSUPP)$/ }
  t.throws(() => peerCredentials(descriptorOf(client!)), errors, 'TCP')
  const fd = await open(t, createFile(join(memoryDirectory(t), 'file'), 1))
  t.throws(() => peerCredentials(fd), { code: 'ENOTSOCK', syscall: 'getsockopt(SO_PEERCRED)' })
  t.throws(() => peerCredentials(99_999), { code: 'EBADF', errno: -9 })
})

const RECEIVE = `
import socket, sys
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(bytes.fromhex(sys.argv[1]))
receiver.settimeout(20)
print('ready', flush=True)
print(receiver.recv(100000).hex(), flush=True)
`

/** Sends to a socket of python's, since Node has none for Unix datagrams. */
async function sendAndReceive(name: string, path: string, message: string): Promise<string> {
  // Python need not run under the sanitizers that the addon may be tested with.
  const env = { ...process.env, LD_PRELOAD: '' }
  const address = Buffer.from(name).toString('hex')
  const python = spawn('python3', ['-c', RECEIVE, address], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  for await (const chunk of python.stdout) {
    if (output === '') sendDatagram(path, message)
    output += String(chunk)
  }
  return Buffer.from(output.replace('ready\n', '').trim(), 'hex').toString()
}

t.test('a datagram arrives at a path', async (t) => {
  const path = join(memoryDirectory(t), 'notify')
  const message = 'READY=1\nSTATUS=läuft\0'
  t.equal(await sendAndReceive(path, path, message), message)
})

t.test('a datagram arrives at an abstract name, spelled either way', async (t) => {
  const name = `imageio-test-${pid}`
  t.equal(await sendAndReceive(`\0${name}`, `@${name}`, 'one'), 'one')
  t.equal(await sendAndReceive(`\0${name}\0tail`, `\0${name}\0tail`, 'two'), 'two')
})

t.test('a datagram nobody takes is an error', async (t) => {
  const directory = memoryDirectory(t)
  const errors = { name: 'SystemError', syscall: 'sendto' }
  t.throws(() => sendDatagram(join(directory, 'none'), 'x'), { ...errors, code: 'ENOENT' })
  t.throws(() => sendDatagram(`@imageio-none-${pid}`, 'x'), { ...errors, code: 'ECONNREFUSED' })
  const long = join(directory, 'n'.repeat(200))
  t.throws(() => sendDatagram(long, 'x'), { ...errors, code: 'ENAMETOOLONG' })
  const file = createFile(join(directory, 'file'), 1)
  t.throws(() => sendDatagram(file, 'x'), { ...errors, code: 'ECONNREFUSED' })
})
