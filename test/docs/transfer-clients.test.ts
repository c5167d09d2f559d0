/** The lines of docs/transfer-clients.md that Debian has the programs for. */
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { PYTHON, withoutGovirt } from '../support/python.js'
import { Sdk } from '../support/sdk.js'
import { run, without } from '../support/tools.js'
import { putFile, startSystem, type TransferSystem } from '../support/transfers.js'
import { withoutVirtV2v } from '../support/virt-v2v.js'

const MiB = 2 ** 20
const page = readFileSync('docs/transfer-clients.md', 'utf8')

/** The n-th block of a section, for this service. */
function block(system: TransferSystem, section: string, n = 0): string {
  const [, text = ''] = page.split(`\n## ${section}\n`)
  const blocks = [...(text.split('\n## ')[0] ?? '').matchAll(/^```\w+\n([^]*?)^```$/gm)]
  return (blocks[n]?.[1] ?? 'exit 1')
    .replaceAll('host.example:54325', `127.0.0.1:${system.port}`)
    .replaceAll('PASSWORD', 'secret')
}

t.test('the lines to paste', { skip: without('curl', 'bash') }, async (t) => {
  const system = await startSystem(t)
  const data = randomBytes(4 * MiB)
  putFile(system, 'disk.img', data)
  putFile(system, 'password', Buffer.from('secret'))
  writeFileSync(join(system.dir, 'ca.pem'), readFileSync(system.caFile))
  const sh = (...lines: string[]): Promise<string> =>
    run('bash', ['-euo', 'pipefail', '-c', lines.join('\n')], { cwd: system.dir })

  t.test('the authority', async (t) => {
    await sh('mv ca.pem known.pem', fetchLine(system))
    t.equal(await sh('cmp ca.pem known.pem'), '')
  })

  t.test('curl', async (t) => {
    const said = await sh(block(system, 'curl'))
    t.match(said, /^finished_success$/m)
    t.equal(await sh('cmp disk.img images/*'), '')
  })

  t.test('the plugin of virt-v2v alone', { skip: withoutVirtV2v() }, async (t) => {
    const sdk = await Sdk.open(t, system.target)
    const more = '<disk id="mydisk"/><format>raw</format>'
    const { id, url } = await system.transferring(more)
    await sh(`dd if=/dev/urandom of=disk.img bs=1M count=4 status=none`)
    await sh(`size=${data.length} url=${url}`, block(system, 'virt-v2v', 1))
    await sdk.finalized(id)
    t.equal(await sh('cmp disk.img images/*'), '')
  })

  t.test('libgovirt', { skip: withoutGovirt() }, async (t) => {
    writeFileSync(join(system.dir, 'browse.py'), block(system, 'libgovirt'))
    t.equal(await run(PYTHON, ['browse.py'], { cwd: system.dir }), "['default']\n")
  })
})

function fetchLine(system: TransferSystem): string {
  const line = /^curl -k .*$/m.exec(page)?.[0] ?? 'exit 1'
  return line.replace('host.example:54325', `127.0.0.1:${system.port}`)
}
