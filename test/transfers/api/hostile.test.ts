/** What no honest client sends, and the edges of HTTP that clients do come to. */
import t from 'tap'
import { within } from '../../support/wait.js'
import { Wire } from '../../support/wire.js'
import { A, BASIC, start } from './start.js'

const ALL = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'

const disk = (inside: string): string =>
  `<disk>${inside}<format>raw</format><provisioned_size>512</provisioned_size></disk>`

t.test('bodies that no one can, or should, understand are refused', async (t) => {
  const { ask, service } = await start(t)
  const laughs = Array.from(
    { length: 10 },
    (_, n) => `<!ENTITY l${n + 1} "${`&l${n};`.repeat(10)}">`,
  ).join('')
  const bodies: Record<string, string | Buffer> = {
    'billion laughs': `<!DOCTYPE disk [<!ENTITY l0 "ha">${laughs}]>${disk('<name>&l10;</name>')}`,
    'a file as entity': `<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>${disk('<name>&x;</name>')}`,
    'a document type of its own': `<!DOCTYPE disk>${disk('')}`,
    'an unknown entity': disk('<name>&nbsp;</name>'),
    'deep nesting': disk(`${'<a>'.repeat(100_000)}${'</a>'.repeat(100_000)}`),
    'many elements': disk('<a/>'.repeat(100_000)),
    'not closed': '<disk><format>raw</format>',
    'two roots': `${disk('')}${disk('')}`,
    'another root': '<image_transfer/>',
    'another encoding': `<?xml version="1.0" encoding="UTF-16"?>${disk('')}`,
    'no UTF-8': Buffer.from([0x3c, 0x64, 0xff, 0x3e]),
    'a control character': disk('<name>&#1;</name>'),
    'twice the same attribute': '<disk id="a" id="b"/>',
    'broken JSON': '{"format":',
    'deep JSON': '['.repeat(500_000),
    'a JSON list': '[]',
    'a JSON number': '7',
    text: 'format=raw',
  }
  for (const [name, body] of Object.entries(bodies)) {
    const { status, headers, text } = await ask('POST', '/disks', { body })
    t.equal(status, 400, name)
    t.match(headers['content-type'], /^application\/xml/)
    t.match(text, /^<fault>/)
    t.notMatch(text, /root:|haha/)
  }
  t.strictSame(service.newDisks, [])
})

t.test('ids and texts that nothing could hold are refused with what they must be', async (t) => {
  const { ask, service } = await start(t)
  const good = { format: 'raw', provisioned_size: 512 }
  const cases: [string, RegExp, object][] = [
    ...['\ud800', 'a\0b', 'a'.repeat(65), '-a', '../a', 'a\n', ''].map(
      (id): [string, RegExp, object] => [
        '/disks',
        /^id is no id: ids are letters/,
        { ...good, id },
      ],
    ),
    ['/disks', /^image_id is no id/, { ...good, image_id: '\udfff' }],
    ['/disks', /^storage_domains.*id is no id/, STORED('\ud800')],
    ['/disks', /^name must be one line/, { ...good, name: 'a\ud800' }],
    ['/disks', /^alias must be one line/, { ...good, alias: 'a\0' }],
    ['/disks', /^description must be well-formed/, { ...good, description: '\udc00' }],
    ['/disks', /^description must be well-formed/, { ...good, description: '\0' }],
    ['/disks', /^provisioned_size must be a whole number/, { ...good, provisioned_size: '1e3' }],
    ['/disks', /^sparse must be true or false/, { ...good, sparse: 'yes' }],
    ['/imagetransfers', /^disk.id is no id/, { disk: { id: '\ud800' } }],
    ['/imagetransfers', /^host.id is no id/, { disk: { id: 'd' }, host: { id: 'a\0' } }],
    ['/imagetransfers', /^snapshot.id is no id/, { snapshot: { id: 'a'.repeat(99) } }],
  ]
  for (const [path, detail, json] of cases) {
    const body = JSON.stringify(json)
    const reply = await ask('POST', path, { body, headers: { accept: 'application/json' } })
    t.equal(reply.status, 400, body.slice(0, 80))
    t.match(reply.json, { reason: 'Invalid value', detail })
  }
  t.strictSame(service.newDisks, [])
  const body = JSON.stringify({ ...good, name: 'ä 😀', description: 'two\r\n\tlines 😀' })
  t.equal((await ask('POST', '/disks', { body })).status, 202)
})

const STORED = (id: string): object => ({
  ...{ format: 'raw', provisioned_size: 512 },
  storage_domains: { storage_domain: [{ id }] },
})

t.test('keys of prototypes are keys that nobody knows', async (t) => {
  const { ask, service } = await start(t)
  const body =
    '{"__proto__":{"backup":"incremental"},"constructor":{"prototype":{"x":1}},"format":"raw","provisioned_size":512}'
  t.equal((await ask('POST', '/disks', { body })).status, 202)
  t.match(service.newDisks[0], { backup: 'none' })
  t.equal(({} as Record<string, unknown>)['x'], undefined)
  const xml = disk('<__proto__><backup>incremental</backup></__proto__>')
  t.equal((await ask('POST', '/disks', { body: xml })).status, 202)
  t.equal((await ask('GET', '/disks?__proto__=1&constructor=2&max=1')).status, 200)
  t.equal((await ask('GET', '/disks?search=constructor%3D1')).status, 400)
})

t.test('what XML can say in other ways is understood', async (t) => {
  const { ask, service } = await start(t)
  const body = `\ufeff<?xml version="1.0" encoding="utf-8" standalone="yes"?>\n<!-- c --><?pi x?>${disk('<name><![CDATA[<a> & b]]></name><description>&#x263a; &quot;</description><backup/>')}`
  t.equal((await ask('POST', '/disks', { body })).status, 202)
  t.match(service.newDisks[0], { name: '<a> & b', description: '☺ "', backup: 'none' })
})

t.test('what JSON can say and XML cannot does not break the XML', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('odd', { name: 'a\u0000]]>\ud800', description: '"&<>' })
  const { text } = await ask('GET', '/disks/odd')
  t.match(text, '<name>a\ufffd]]&gt;\ufffd</name>')
  t.match(text, '<description>"&amp;&lt;&gt;</description>')
})

t.test('a body over the limit is refused without being read to its end', async (t) => {
  const { ask, target } = await start(t)
  const wire = await Wire.open(target)
  const head = `POST ${A}/disks HTTP/1.1\r\nHost: e\r\nAuthorization: ${BASIC}\r\n`
  const announced = await wire.ask(`${head}Content-Length: 99999999\r\n\r\n<disk>`)
  t.equal(announced.status, 413)
  t.equal(announced.headers['connection'], 'close')
  t.match(announced.text, '<fault>')
  wire.destroy()
  const body = ' '.repeat(1024 * 1024 + 1)
  const chunked = await ask('POST', '/disks', { body, headers: { 'transfer-encoding': 'chunked' } })
  t.equal(chunked.status, 413)
})

t.test('GET, HEAD and DELETE are answered before a body that was announced', async (t) => {
  const { target, service } = await start(t)
  service.putDisk('d')
  for (const [method, path] of [
    ['GET', '/disks'],
    ['HEAD', '/disks'],
    ['GET', '/none'],
    ['DELETE', '/disks/d'],
    ['DELETE', '/disks/d'],
  ] as const) {
    const wire = await Wire.open(target)
    const { status, headers } = await wire.ask(
      `${method} ${A}${path} HTTP/1.1\r\nHost: e\r\nAuthorization: ${BASIC}\r\nContent-Type: application/xml\r\nContent-Length: 500\r\n\r\n`,
      { isHead: method === 'HEAD' },
    )
    t.ok([200, 404].includes(status))
    t.equal(headers['connection'], 'close')
    t.ok(await wire.isClosedSilently())
  }
})

t.test('expectations: 100-continue is granted, others are no reason to refuse', async (t) => {
  const { target } = await start(t)
  const body = disk('')
  const head = (expect: string): string =>
    `POST ${A}/disks HTTP/1.1\r\nHost: e\r\nAuthorization: ${BASIC}\r\nExpect: ${expect}\r\nContent-Length: ${body.length}\r\n\r\n`
  const wire = await Wire.open(target)
  t.equal((await wire.ask(head('100-continue'))).status, 100)
  t.equal((await wire.ask(body)).status, 202)
  for (const [expect, status] of [
    ['202-accepted', 202],
    ['201-created', 201],
    ['something', 202],
  ] as const) {
    t.equal((await wire.ask(`${head(expect)}${body}`)).status, status)
  }
  wire.destroy()
})

t.test('methods, paths, versions and forms that there are not', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('d')
  const patch = await ask('PATCH', '/disks/d', { body: '<disk/>' })
  t.equal(patch.status, 405)
  t.equal(patch.headers['allow'], 'GET, HEAD, PUT, DELETE')
  t.match(patch.text, '<fault>')
  t.equal((await ask('PUT', '/disks', { body: '<disk/>' })).headers['allow'], 'GET, HEAD, POST')
  t.equal((await ask('POST', '')).headers['allow'], 'GET, HEAD')
  t.equal((await ask('GET', '/imagetransfers/t/cancel')).headers['allow'], 'POST')
  for (const path of [
    '/disks/a%2Fb',
    '/disks/..%2f..',
    '/disks/-a',
    `/disks/${'a'.repeat(65)}`,
    '/x',
    '/disks/d/none',
  ]) {
    const { status, headers } = await ask('GET', path)
    t.equal(status, 404, path)
    t.match(headers['content-type'], /xml/)
  }
  t.equal((await ask('GET', '/ovirt-engine')).status, 404)
  for (const id of ['%zz', '%', '%ff', '%ed%a0%80', '%00', 'a%0a']) {
    const { status, text } = await ask('GET', `/disks/${id}`)
    t.equal(status, 400, id)
    t.match(text, '<reason>Invalid value</reason>')
  }
  const long = `/disks/${'a'.repeat(10_000)}`
  t.equal((await ask('GET', long, { headers: { authorization: '' } })).status, 401)
  const unnamed = await ask('GET', long, { headers: { accept: 'application/json' } })
  t.equal(unnamed.status, 404)
  t.match(unnamed.json, { reason: 'Not Found', detail: /at most 64 characters/ })
  t.equal((await ask('PROPFIND', '/disks')).headers['allow'], ALL)
  t.equal((await ask('GET', '/v3/disks')).status, 400)
  t.equal((await ask('GET', '/disks', { headers: { version: '3' } })).status, 400)
  t.equal((await ask('GET', '/v4/disks/d', { headers: { version: '3' } })).status, 200)
  t.match((await ask('GET', '/v4/disks/d')).text, 'href="/ovirt-engine/api/v4/disks/d"')
  const accept = (accept: string) => ask('GET', '/disks', { headers: { accept } })
  t.equal((await accept('image/png')).status, 406)
  t.equal((await accept('application/xml;q=0')).status, 406)
  const firefox = 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8'
  for (const [range, type] of [
    ['application/json', 'json'],
    ['application/xml;q=0.5, application/json', 'json'],
    ['application/json;q=0.5, */*', 'xml'],
    [firefox, 'xml'],
    ['text/xml', 'xml'],
    ['application/*', 'xml'],
  ] as const) {
    t.match((await accept(range)).headers['content-type'], type, range)
  }
})

t.test(
  'what Node would refuse without a word is a fault in the form the client wants',
  async (t) => {
    const { target } = await start(t)
    const line = `GET ${A}/disks HTTP/1.1\r\n`
    const more = `Authorization: ${BASIC}\r\nAccept: application/json\r\n`
    const long = 'a'.repeat(20_000)
    const requests: [number, RegExp, string][] = [
      [400, /no Host/, `${line}${more}\r\n`],
      [400, /more than one Host/, `${line}Host: a\r\nHost: b\r\n${more}\r\n`],
      [414, /16384 bytes/, `GET ${A}/disks?${long} HTTP/1.1\r\nHost: a\r\n${more}\r\n`],
      [431, /16384 bytes/, `${line}Host: a\r\n${more}A: ${long}\r\n\r\n`],
      [405, /use one of GET/, `NONSENSE ${A} HTTP/1.1\r\nHost: a\r\n${more}\r\n`],
      [405, /use one of GET/, `CONNECT a:1 HTTP/1.1\r\nHost: a\r\n${more}\r\n`],
      [505, /HTTP\/1\.1/, `GET ${A} HTTP/3.0\r\nHost: a\r\n${more}\r\n`],
      [400, /not well-formed/, `${line}Host: a\r\n${more}Content-Length: x\r\n\r\n`],
      [
        400,
        /not well-formed/,
        `${line}Host: a\r\n${more}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n`,
      ],
    ]
    for (const [status, detail, text] of requests) {
      const wire = await Wire.open(target)
      const reply = await wire.ask(text)
      t.equal(reply.status, status, text.slice(0, 40))
      t.equal(reply.headers['connection'], 'close')
      // What came before the fault may be all that its packet had.
      if (/json/.test(reply.headers['content-type'] ?? '')) {
        t.match(JSON.parse(reply.text), { reason: /./, detail })
      } else t.match(reply.text, detail)
      if (status === 405) t.equal(reply.headers['allow'], ALL)
      await within('the end', 5000, wire.rest())
    }
    const old = await Wire.open(target)
    t.equal((await old.ask(`GET ${A} HTTP/1.0\r\n${more}\r\n`)).status, 200)
    const sso = await Wire.open(target)
    const refused = await sso.ask('POST /ovirt-engine/sso/oauth/token HTTP/1.1\r\n\r\n')
    t.match(JSON.parse(refused.text), { error_code: 'invalid_request', error: /Host/ })
  },
)

t.test('what is no HTTP is answered with a fault, too', async (t) => {
  const { target } = await start(t)
  const wire = await Wire.open(target)
  const { status, headers, text } = await wire.ask('NONSENSE\r\n\r\n')
  t.equal(status, 400)
  t.match(headers['content-type'], /xml/)
  t.match(text, '<fault>')
  await within('the end', 5000, wire.rest())
})

t.test('matrix parameters go behind the query', async (t) => {
  const { ask, service } = await start(t)
  for (const id of ['a', 'b', 'c']) service.putDisk(id)
  const count = async (path: string): Promise<number> =>
    (await ask('GET', path)).text.split('<disk ').length - 1
  t.equal(await count('/disks;max=2'), 2)
  t.equal(await count('/disks;max=2;filter=true?max=1'), 1)
  t.equal(await count('/disks?max=x'), 3)
  t.equal(await count('/disks;async?filter&unknown=1'), 3)
  t.equal(await count('/disks;search=name%3D%22disk%20a%22'), 1)
})

t.test('searches', async (t) => {
  const { ask, service } = await start(t)
  service.putDisk('a', { name: 'Alpha', provisionedSize: 100 })
  service.putDisk('b', { name: 'my beta disk', provisionedSize: 2000, format: 'cow' })
  service.putDisk('c', { name: 'gamma', provisionedSize: 30, status: 'illegal' })
  const find = async (search: string, more = ''): Promise<string> => {
    const { text, status } = await ask('GET', `/disks?search=${encodeURIComponent(search)}${more}`)
    return status === 200
      ? [...text.matchAll(/<disk href="[^"]+" id="(\w)"/g)].map(([, id]) => id).join('')
      : String(status)
  }
  const cases: Record<string, string> = {
    '': 'abc',
    'name=alpha': 'a',
    alpha: 'a',
    'ALIAS = "Alpha"': 'a',
    'name=my beta disk and format=COW': 'b',
    'name=*a*': 'abc',
    'name=*a': 'ac',
    'name!=gamma': 'ab',
    'status=OK': 'ab',
    'provisioned_size>=100': 'ab',
    'provisioned_size<100': 'c',
    'name=gamma or name=alpha and format=cow': 'c',
    'name=gamma OR format=raw AND status=ok': 'ac',
    'storage.name=sd1': 'abc',
    'sortby provisioned_size': 'cab',
    'status=ok sortby provisioned_size desc': 'ba',
    'sortby name asc page 1': 'acb',
    'nofield=1': '400',
    'name=': '400',
    'name=a and': '',
    'name=a and  ': '400',
    'sortby nofield': '400',
    'name="a" garbage': '400',
  }
  for (const [search, ids] of Object.entries(cases)) {
    t.equal(await find(search), ids, search)
  }
  t.equal(await find('name=alpha', '&case_sensitive=true'), '')
  t.equal(await find('sortby name page 2', '&max=2'), 'b')
  t.equal(await find('x'.repeat(3000)), '400')
  t.equal(await find(`name=${'*a'.repeat(900)}`), '')
})
