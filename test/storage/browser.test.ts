import t from 'tap'
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startDaemon } from '../support/daemon.js'
import { without } from '../support/tools.js'
import { within } from '../support/wait.js'

/** What the page does with the image, as a portal would; runs in the browser. */
const SCRIPT = `
  const url = TICKET_URL, out = {}
  const note = async (name, work) => {
    try { out[name] = await work() } catch (error) { out[name] = String(error) }
  }
  const body = 'x'.repeat(8192)
  await note('put', async () => {
    const headers = { 'Content-Range': 'bytes 0-8191/65536', 'Cache-Control': 'no-cache' }
    return (await fetch(url + '?flush=n', { method: 'PUT', headers, body })).status
  })
  await note('patch', async () => {
    const zero = JSON.stringify({ op: 'zero', offset: 4096, size: 61440, flush: true })
    return (await fetch(url, { method: 'PATCH', body: zero })).status
  })
  await note('range', async () => {
    const reply = await fetch(url, { headers: { Range: 'bytes=4090-4099' } })
    return [reply.status, await reply.text(), reply.headers.get('content-range')]
  })
  await note('exposed', async () => {
    const { headers } = await fetch(url)
    return [headers.get('content-disposition'), headers.get('etag') !== null]
  })
  await note('extents', async () => (await fetch(url + '/extents')).json())
  await note('options', async () => (await (await fetch(url, { method: 'OPTIONS' })).json()).features)
  await note('error', async () => {
    const reply = await fetch(url.replace(/[^/]*$/, 'unknown'))
    return [reply.status, (await reply.text()).length > 0]
  })
  await note('preflight', async () => {
    const headers = { 'Content-Range': 'bytes 0-0/*' }
    const unknown = url.replace(/[^/]*$/, 'unknown')
    return (await fetch(unknown, { method: 'PUT', headers, body: 'x' })).status
  })
  await fetch('/result', { method: 'POST', body: JSON.stringify(out) })
`

const BROWSER = 'chromium'
const skip = without(BROWSER)

t.test('149-156: a browser up- and downloads from another origin', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const image = await daemon.addImage(Buffer.alloc(65_536, 'y'), {
    filename: 'a.raw',
    sparse: true,
  })
  const script = SCRIPT.replace('TICKET_URL', JSON.stringify(daemon.url + image.url))
  const page = `<!doctype html><title>portal</title><script type="module">${script}</script>`
  let report: (result: unknown) => void
  const reported = new Promise<unknown>((resolve) => (report = resolve))
  const server = http.createServer((request, response) => {
    if (request.method !== 'POST') {
      response.setHeader('content-type', 'text/html').end(page)
      return
    }
    let body = ''
    request.setEncoding('utf8').on('data', (text: string) => void (body += text))
    request.on('end', () => {
      response.end()
      report(JSON.parse(body))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  const profile = await mkdtemp(join(tmpdir(), 'imageio-browser-'))
  t.teardown(() => rm(profile, { recursive: true, force: true, maxRetries: 5 }))
  const { port } = server.address() as AddressInfo
  const browser = spawn(
    BROWSER,
    [
      ...['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
      ...['--ignore-certificate-errors', '--no-first-run', `--user-data-dir=${profile}`],
      ...['--remote-debugging-port=0', `http://127.0.0.1:${port}/`],
    ],
    { stdio: 'ignore', detached: true },
  )
  const ended = new Promise((resolve) => browser.once('exit', resolve))
  t.teardown(async () => {
    if (browser.pid !== undefined) process.kill(-browser.pid, 'SIGKILL')
    await within('end of the browser', 5000, ended)
  })
  const result = await within('the page', 40_000, reported)
  t.match(result, {
    put: 200,
    patch: 200,
    range: [206, 'xxxxxx\0\0\0\0', 'bytes 4090-4099/65536'],
    options: ['checksum', 'extents', 'flush', 'zero'],
    error: [403, true],
    preflight: /TypeError/,
  })
  const { exposed, extents } = result as { exposed: [string, boolean]; extents: unknown[] }
  t.match(exposed[0], /^attachment; filename="?a\.raw"?$/)
  t.ok(exposed[1], 'the entity tag can be read')
  t.strictSame(extents, [
    { start: 0, length: 4096, zero: false, hole: false },
    { start: 4096, length: 61_440, zero: true, hole: false },
  ])
  const expected = Buffer.alloc(65_536)
  expected.fill('x', 0, 4096)
  t.ok(image.bytes().equals(expected))
})
