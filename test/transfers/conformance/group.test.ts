/** A daemon that is another user than the service, with a group in common. */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { without } from '../../support/tools.js'
import { diskXml, putFile, startSystem, tag } from '../../support/transfers.js'

/** Of every Debian; its user has it as its group. */
const GROUP = 'games'
const MiB = 2 ** 20

const gid = Number(
  spawnSync('getent', ['group', GROUP], { encoding: 'utf8' }).stdout.split(':')[2] ?? 0,
)
const skip =
  (process.getuid?.() !== 0 && 'needs root') ||
  (!gid && `there is no group ${GROUP}`) ||
  without('curl', 'qemu-img', 'qemu-nbd')

t.test('the daemon reads and writes volumes, and uses NBD servers', { skip }, async (t) => {
  const system = await startSystem(t, {
    daemon: { daemon: { drop_privileges: true, user_name: GROUP, group_name: GROUP } },
    transfers: { group: GROUP },
  })
  // Everybody may pass, but not look around.
  chmodSync(system.dir, 0o711)
  const data = randomBytes(MiB)
  const file = putFile(system, 'data', data)
  const isShared = (path: string): void => {
    t.match(statSync(path), { uid: 0, gid })
    t.equal(statSync(path).mode & 0o777, 0o660)
  }

  await system.addDisk('raw', 'raw', MiB)
  const up = await system.transferring('<disk id="raw"/>')
  t.equal((await system.upload(up.url, file)).status, 200)
  await system.act(up.id, 'finalize')
  await system.phase(up.id, 'finished_success')
  const volume = tag(await system.diskStatus('raw', 'ok'), 'image_id') ?? ''
  isShared(join(system.images, volume))
  t.ok(readFileSync(join(system.images, volume)).equals(data))

  await system.post('disks', diskXml('guest', 'cow', MiB))
  await system.diskStatus('guest', 'ok')
  const guest = await system.transferring('<disk id="guest"/><format>raw</format>')
  const run = join(system.dir, 'run')
  t.equal(statSync(run).gid, gid)
  const socket = readdirSync(run).find((name) => statSync(join(run, name)).isSocket()) ?? ''
  isShared(join(run, socket))
  t.equal((await system.upload(guest.url, file)).status, 200)
  await system.act(guest.id, 'finalize')
  await system.phase(guest.id, 'finished_success')
})

t.test('without the group it may not', { skip }, async (t) => {
  const system = await startSystem(t, {
    daemon: { daemon: { drop_privileges: true, user_name: GROUP, group_name: GROUP } },
  })
  chmodSync(system.dir, 0o711)
  await system.addDisk('raw', 'raw', MiB)
  const { url, id } = await system.transferring('<disk id="raw"/>')
  const file = putFile(system, 'data', randomBytes(MiB))
  t.not((await system.upload(url, file)).status, 200)
  await system.act(id, 'cancel')
  await system.phase(id, 'finished_failure')
})
