/** Which daemons the proxy believes, and which way it takes to them. */
import t, { type Test } from 'tap'
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import https from 'node:https'
import type { AddressInfo } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import tls from 'node:tls'
import { startDaemon, ticketFields, type Daemon, type Sections } from '../../support/daemon.js'
import { setEnvironment } from '../../support/environment.js'
import { startFakeDaemon } from '../../support/fake-daemon.js'
import { request, type Reply } from '../../support/http.js'
import { testPki } from '../../support/pki.js'
import { Pair, startPair, startProxy } from '../../support/proxy.js'
import { until } from '../../support/wait.js'

t.test('221-222: certificates', async (t) => {
  const daemon = await startDaemon(t, { config: { remote: { host: '::' } } })
  const strange = testPki('strange')

  const through = async (t: Test, config: Sections, host = '127.0.0.1'): Promise<Reply> => {
    const proxy = await startProxy(t, config)
    const image = await daemon.addImage(4096)
    const url = `https://${host}:${daemon.port}/images/${image.id}`
    await proxy.addTicket({ uuid: image.id, size: 4096, url })
    return request(proxy.remote, 'GET', image.url)
  }
  const files = (backend: string, tls: string): Sections => ({
    backend_http: { ca_file: backend },
    tls: { ca_file: tls },
  })

  t.test('the file of backend_http comes first', async (t) => {
    t.equal((await through(t, files(testPki().caFile, strange.caFile))).status, 200)
    t.match(await through(t, files(strange.caFile, testPki().caFile)), {
      status: 502,
      text: 'the host of the image has no certificate that is trusted here\n',
    })
  })

  t.test('the environment switches nothing off', async (t) => {
    setEnvironment(t, 'NODE_TLS_REJECT_UNAUTHORIZED', '0')
    t.equal((await through(t, files(strange.caFile, ''))).status, 502)
  })

  t.test('then that of tls, then the system store', async (t) => {
    t.equal((await through(t, files('', testPki().caFile))).status, 200)
    t.equal((await through(t, files('', ''))).status, 502)
  })

  t.test('names and addresses are compared', async (t) => {
    const trusted = files(testPki().caFile, '')
    t.equal((await through(t, trusted, 'localhost')).status, 200)
    t.equal((await through(t, trusted, '[::1]')).status, 200)
    const other = otherAddress()
    if (other === undefined) return
    const allowed = { ...trusted, proxy: { allowed_daemons: '*:*' } }
    t.equal((await through(t, allowed, other)).status, 502, 'not in the certificate')
  })

  t.test('a file that is not there keeps the proxy from starting', async (t) => {
    const check = await startProxy(t, files('/nonexistent/ca.pem', '')).catch(String)
    t.match(check, /nonexistent/)
  })
})

t.test('a daemon that is not trusted is told so by the native front only', async (t) => {
  const strange = testPki('strange')
  const server = tls.createServer({
    key: readFileSync(strange.keyFile),
    cert: readFileSync(strange.certFile),
  })
  const ends: (string | undefined)[] = []
  const note = (error: NodeJS.ErrnoException): void => void ends.push(error.code)
  server.on('tlsClientError', note)
  // With TLS 1.3 the handshake may be over here when the client refuses it.
  server.on('secureConnection', (socket) => {
    socket
      .on('error', note)
      .on('end', () => ends.push('end'))
      .resume()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const proxy = await startProxy(t)
  const uuid = randomUUID()
  await proxy.addTicket({ uuid, size: 10, url: `https://localhost:${port}/images/${uuid}` })
  const { status, text } = await request(proxy.remote, 'GET', `/images/${uuid}`)
  t.match({ status, text }, { status: 502, text: /no certificate that is trusted here/ })
  const end = await until('the daemon sees the end', () => ends[0])
  if (process.env['IMAGEIO_TEST_NATIVE'] === 'off') t.notMatch(end, /ALERT/)
  else t.equal(end, 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA')
})

t.test('a daemon that asks for a certificate gets one, if there is one', async (t) => {
  const pki = testPki()
  const own = testPki('proxy')
  const server = https.createServer(
    {
      key: readFileSync(pki.keyFile),
      cert: readFileSync(pki.certFile),
      ca: own.ca,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (_request, response) => response.end('known'),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const ask = async (config: Sections): Promise<Reply> => {
    const proxy = await startProxy(t, config)
    const uuid = randomUUID()
    await proxy.addTicket({ uuid, size: 10, url: `https://localhost:${port}/images/${uuid}` })
    return request(proxy.remote, 'GET', `/images/${uuid}`)
  }
  const shown = { cert_file: own.certFile, key_file: own.keyFile }
  t.match(await ask({ backend_http: shown }), { status: 200, text: 'known' })
  t.match(await ask({}), { status: 502, text: /wants a certificate that it trusts/ })
})

t.test('223: the Unix socket of a daemon on this host', async (t) => {
  const connectionsOf = (daemon: Daemon, service: string): number =>
    daemon.logText().split(`"service":"${service}","connection":`).length

  t.test('is used when it is the same daemon', async (t) => {
    const pair = await startPair(t, { usesLocalSocket: true })
    const image = await pair.addImage(100_000)
    const before = connectionsOf(pair.daemon, 'local')
    const reply = await request(pair.proxy.remote, 'GET', image.url)
    t.ok(reply.body.equals(image.bytes()))
    t.ok(connectionsOf(pair.daemon, 'local') > before)
    t.match(pair.proxy.logText(), 'using its socket')
    const put = await request(pair.proxy.remote, 'PUT', image.url, { body: Buffer.alloc(100_000) })
    t.equal(put.status, 200)
    t.ok(image.bytes().equals(Buffer.alloc(100_000)))
  })

  t.test('is left alone when another daemon listens on that name', async (t) => {
    const other = await startDaemon(t)
    const daemon = await startDaemon(t, {
      config: { local: { socket: other.localSocket.replace('\0', '@') + 'x' } },
      skips: ['local'],
    })
    const proxy = await startProxy(t, {}, true)
    const pair = new Pair(daemon, proxy)
    const image = await pair.addImage(4096)
    t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
  })

  t.test('is left when the daemon is restarted with another one', async (t) => {
    const config = { local: { socket: '' } }
    const daemon = await startDaemon(t, { config, skips: ['local'] })
    const proxy = await startProxy(t, {}, true)
    const image = await new Pair(daemon, proxy).addImage(4096)
    t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
    t.match(proxy.logText(), 'using its socket')
    let running = daemon
    const times = (text: string): number => proxy.logText().split(text).length - 1
    const requests = [
      ['GET', undefined],
      ['PUT', Buffer.alloc(4096, 'x')],
      ['PATCH', '{"op": "flush"}'],
    ] as const
    for (const [index, [method, body]] of requests.entries()) {
      running.process.kill('SIGKILL')
      await running.exited()
      running = await startDaemon(t, { config, from: daemon, skips: ['local'] })
      await running.addTicketFor(image.file, { uuid: image.id, size: 4096 })
      const what = body === undefined ? {} : { body }
      t.equal((await request(proxy.remote, method, image.url, what)).status, 200, method)
      t.equal(times('socket has gone'), index + 1)
      // It is looked for again, and found.
      t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
      t.equal(times('using its socket'), index + 2)
    }
    t.ok(image.bytes().equals(Buffer.alloc(4096, 'x')))
  })

  t.test('a daemon that was away is looked at again', async (t) => {
    const proxy = await startProxy(t, {}, true)
    const daemon = await startDaemon(t)
    const image = await new Pair(daemon, proxy).addImage(4096)
    daemon.process.kill('SIGKILL')
    await daemon.exited()
    t.equal((await request(proxy.remote, 'GET', image.url)).status, 502)
    const again = await startDaemon(t, { from: daemon })
    await again.addTicketFor(image.file, { uuid: image.id, size: 4096 })
    t.equal((await request(proxy.remote, 'GET', image.url)).status, 200)
    t.match(proxy.logText(), 'using its socket')
  })

  t.test('a silent daemon is asked once, and given up in time', async (t) => {
    const config = { proxy: { allow_http: true, response_timeout: 1, work_timeout: 1 } }
    const proxy = await startProxy(t, config, true)
    const fake = await startFakeDaemon(t, () => undefined)
    const uuid = await proxy.addTicket({ ...ticketFields(), url: `${fake.url}/images/x` })
    t.equal((await request(proxy.remote, 'GET', `/images/${uuid}`)).status, 504)
    t.equal(fake.asked.length, 1)
    t.equal(fake.asked[0]?.method, 'OPTIONS')
  })

  t.test('is left alone when it does not answer', async (t) => {
    const daemon = await startDaemon(t, { config: { local: { enable: false } }, skips: ['local'] })
    const pair = new Pair(daemon, await startProxy(t, {}, true))
    const image = await pair.addImage(4096)
    t.equal((await request(pair.proxy.remote, 'GET', image.url)).status, 200)
    t.notMatch(pair.proxy.logText(), 'using its socket')
  })
})

t.test('network namespaces', async (t) => {
  t.test('a client that has no route to the daemon', namespaces(), async (t) => {
    // Client and daemon are each behind a link of their own; only the proxy's side knows both.
    const names = [`imgc${process.pid}`, `imgd${process.pid}`] as const
    const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' })
    t.teardown(() => names.forEach((name) => ip('netns', 'del', name)))
    for (const [index, name] of names.entries()) {
      ip('netns', 'add', name)
      ip('link', 'add', `ve${name}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name)
      ip('addr', 'add', `10.213.${index}.1/24`, 'dev', `ve${name}`)
      ip('link', 'set', `ve${name}`, 'up')
      ip('-n', name, 'addr', 'add', `10.213.${index}.2/24`, 'dev', 'eth0')
      ip('-n', name, 'link', 'set', 'eth0', 'up')
      ip('-n', name, 'link', 'set', 'lo', 'up')
    }
    const [client, server] = names
    const daemon = await startDaemon(t, {
      tls: false,
      netns: server,
      config: { remote: { host: '10.213.1.2' } },
      skips: ['remote', 'local'],
    })
    const proxy = await startProxy(t, {
      remote: { host: '0.0.0.0' },
      proxy: { allowed_daemons: '10.213.1.2:*', allow_http: true },
    })
    const image = await daemon.addImage(1_000_000)
    const url = `http://10.213.1.2:${daemon.port}/images/${image.id}`
    await proxy.addTicket({ uuid: image.id, size: 1_000_000, url })
    const curl = (...args: string[]): Buffer =>
      execFileSync('ip', ['netns', 'exec', client, 'curl', '-sSk', '--max-time', '5', ...args], {
        stdio: 'pipe',
      })
    t.throws(() => curl(url), 'no way to the daemon')
    // Distance, where the kernel can simulate it, changes nothing but the time it takes.
    for (const name of names) {
      const args = ['qdisc', 'add', 'dev', `ve${name}`, 'root', 'netem', 'delay', '20ms']
      if (spawnSync('tc', args).status !== 0) t.comment('no latency: this kernel has no netem')
    }
    const relayed = curl(`https://10.213.0.1:${proxy.port}${image.url}`)
    t.ok(relayed.equals(image.bytes()))
    const body = join(daemon.dir, 'body')
    writeFileSync(body, randomBytes(1_000_000))
    curl('-T', body, `https://10.213.0.1:${proxy.port}${image.url}`)
    t.ok(image.bytes().equals(readFileSync(body)))
  })
})

/** An address of this machine that no certificate names. */
function otherAddress(): string | undefined {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? [])
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address
}

function namespaces(): { skip: string | false } {
  try {
    const name = `imgt${process.pid}`
    execFileSync('ip', ['netns', 'add', name], { stdio: 'pipe' })
    execFileSync('ip', ['netns', 'exec', name, 'curl', '--version'], { stdio: 'pipe' })
    execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' })
    return { skip: false }
  } catch {
    return { skip: 'needs root, ip, curl and network namespaces' }
  }
}
