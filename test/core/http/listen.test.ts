import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Admission } from '../../../core/http/admission.js'
import {
  listenLoopback,
  listenTcp,
  listenUnix,
  MODE_PRIVATE,
  MODE_PUBLIC,
  removeSocket,
} from '../../../core/http/listen.js'
import { mayManage } from '../../../core/http/peer.js'
import { HttpServer } from '../../../core/http/server.js'
import { request } from '../../support/http.js'
import { recordingLogger } from './exchanges.js'
import { hello, LIMITS } from './serving.js'

function make(t: Test, mayConnect: (socket: net.Socket) => boolean = () => true): HttpServer {
  const server = new HttpServer({
    service: 'test',
    routes: [{ path: '/images/:id', methods: { GET: hello } }],
    requireHost: true,
    limits: LIMITS,
    admission: new Admission({ maxConnections: 10, maxConnectionsPerAddress: 10 }),
    logger: recordingLogger().logger,
    mayConnect,
  })
  t.teardown(() => server.close(0))
  return server
}

function directory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-test-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  return dir
}

const text = async (path: string): Promise<string> =>
  (await request({ path }, 'GET', '/images/a')).text

const portOf = ({ address }: HttpServer): number =>
  typeof address === 'string' ? -1 : address.port

t.test('a socket file has its mode, whatever the umask is', async (t) => {
  const umask = process.umask(0o077)
  t.teardown(() => process.umask(umask))
  for (const mode of [MODE_PRIVATE, MODE_PUBLIC]) {
    const path = join(directory(t), 'sock')
    await listenUnix(make(t), path, mode)
    t.equal(statSync(path).mode & 0o777, mode)
    t.equal(await text(path), 'hello a\n')
  }
  t.equal(process.umask(0o077), 0o077)
})

t.test('a directory that is not there is named', async (t) => {
  const path = join(directory(t), 'none', 'sock')
  const message = `${path} cannot be made: ${join(path, '..')} does not exist`
  await t.rejects(listenUnix(make(t), path, MODE_PRIVATE), { message })
})

t.test('a socket that nobody listens on is replaced', async (t) => {
  const path = join(directory(t), 'sock')
  const left = net.createServer()
  await new Promise<void>((resolve) => left.listen(path, resolve))
  const other = `${path}-kept`
  renameSync(path, other) // closing removes the file only at its own name
  await new Promise((resolve) => left.close(resolve))
  renameSync(other, path)
  await listenUnix(make(t), path, MODE_PRIVATE)
  t.equal(await text(path), 'hello a\n')
})

t.test('a socket in use is left to its owner', async (t) => {
  const path = join(directory(t), 'sock')
  await listenUnix(make(t), path, MODE_PRIVATE)
  await t.rejects(listenUnix(make(t), path, MODE_PRIVATE), { message: /in use/ })
  t.equal(await text(path), 'hello a\n')
})

t.test('a file that is no socket is not removed', async (t) => {
  const path = join(directory(t), 'file')
  writeFileSync(path, 'content')
  await t.rejects(listenUnix(make(t), path, MODE_PRIVATE), { message: /no socket/ })
  t.ok(existsSync(path))
})

t.test('a name that is too long is an error, and the umask is as before', async (t) => {
  const umask = process.umask(0o027)
  t.teardown(() => process.umask(umask))
  const path = join(directory(t), 'x'.repeat(120))
  await t.rejects(listenUnix(make(t), path, MODE_PRIVATE))
  t.equal(process.umask(umask), 0o027)
})

t.test('an abstract name has no file', async (t) => {
  const path = `\0imageio-test-listen-${process.pid}`
  await listenUnix(make(t), path, MODE_PRIVATE)
  t.equal(await text(path), 'hello a\n')
  removeSocket(path)
})

t.test('removing a socket twice is no error', async (t) => {
  const path = join(directory(t), 'sock')
  writeFileSync(path, '')
  removeSocket(path)
  removeSocket(path)
  t.notOk(existsSync(path))
})

t.test('a TCP listener has the port it got', async (t) => {
  for (const host of ['127.0.0.1', '', '::']) {
    const server = make(t)
    await listenTcp(server, host, 0)
    const port = portOf(server)
    t.ok(port > 0)
    const target = { host: '127.0.0.1', port }
    t.equal((await request(target, 'GET', '/images/a')).text, 'hello a\n', host)
  }
})

t.test('an address that this host does not have is an error', async (t) => {
  await t.rejects(listenTcp(make(t), '192.0.2.1', 0), { code: 'EADDRNOTAVAIL' })
})

t.test('loopback is IPv4 where that is preferred', async (t) => {
  const server = make(t)
  await listenLoopback(server, 0, true)
  const reply = await request({ host: '127.0.0.1', port: portOf(server) }, 'GET', '/images/a')
  t.equal(reply.text, 'hello a\n')
  const other = make(t)
  await listenLoopback(other, 0, false)
  t.match(other.address, { address: /^(127\.0\.0\.1|::1)$/ })
})

t.test('the own user may manage, by path and by abstract name', async (t) => {
  const path = join(directory(t), 'sock')
  const abstract = `\0imageio-test-peer-${process.pid}`
  for (const name of [path, abstract]) {
    const seen: boolean[] = []
    const server = make(t, (socket) => {
      seen.push(mayManage(socket, name))
      return true
    })
    await listenUnix(server, name, MODE_PRIVATE)
    t.equal(await text(name), 'hello a\n')
    t.strictSame(seen, [true])
  }
})

t.test('a peer without credentials may not manage', async (t) => {
  t.equal(mayManage(new net.Socket(), '\0name'), false)
})
