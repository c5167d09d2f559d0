import { spawnSync } from 'node:child_process'
import {
  chownSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { dropPrivileges } from '../../core/privileges.js'

const MODULE = new URL('../../core/privileges.js', import.meta.url).href
const isRoot = process.geteuid?.() === 0
const asRoot = { skip: !isRoot && 'needs root' }

/** Drops in a process of its own; there is no way back. */
function run(options: object): { ids?: Ids; error?: string } {
  const script = `
    import { dropPrivileges } from ${JSON.stringify(MODULE)}
    const answer = {}
    try {
      answer.dropped = dropPrivileges(${JSON.stringify(options)})
    } catch (error) {
      answer.error = error.message
    }
    const { uid, gid } = { uid: process.getuid(), gid: process.getgid() }
    const effective = [process.geteuid(), process.getegid()]
    let isForGood = false
    try { process.setuid(0) } catch { isForGood = true }
    answer.ids = { uid, gid, effective, groups: process.getgroups(), isForGood }
    console.log(JSON.stringify(answer))
  `
  const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  return JSON.parse(child.stdout) as { ids?: Ids; error?: string }
}
interface Ids {
  uid: number
  gid: number
  effective: number[]
  groups: number[]
  isForGood: boolean
}

/** What the system's own tool says of a user. */
function idOf(option: string, user: string): number[] {
  const { stdout } = spawnSync('id', [option, user], { encoding: 'utf8' })
  return stdout.trim().split(' ').map(Number)
}

t.test(
  'root becomes the user with its group and supplementary groups, for good',
  asRoot,
  async (t) => {
    const [gid] = idOf('-g', 'games') // every Debian has these users
    const [uid] = idOf('-u', 'backup')
    const groups = idOf('-G', 'backup')
    const primary = idOf('-g', 'backup')
    const { ids } = run({ user: 'backup', group: 'games', chown: [] })
    t.match(ids, { uid, gid, effective: [uid, gid], isForGood: true })
    const expected = [...groups.filter((id) => !primary.includes(id)), gid!]
    t.strictSame([...new Set(ids?.groups)].sort(), [...new Set(expected)].sort())
  },
)

t.test('paths are handed over, links themselves and not what they point at', asRoot, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-'))
  t.teardown(() => rmSync(dir, { recursive: true }))
  const [log, secret, link] = ['daemon.log', 'secret', 'daemon.log.1'].map((name) =>
    join(dir, name),
  )
  for (const file of [log!, secret!]) writeFileSync(file, '')
  symlinkSync(secret!, link!)
  const hardLink = join(dir, 'daemon.log.2')
  linkSync(secret!, hardLink)
  chownSync(dir, 0, 0)
  const chown = [dir, log, link, hardLink, join(dir, 'missing'), '\0abstract', '']
  const { ids, error } = run({ user: 'backup', group: 'backup', chown })
  t.equal(error, undefined)
  for (const path of [dir, log!, link!]) t.equal(lstatSync(path).uid, ids?.uid, path)
  t.equal(lstatSync(secret!).uid, 0)
})

t.test('an unknown user or group is an error and nothing is given away', asRoot, async (t) => {
  const refused = (user: string, group: string, error: string): void => {
    const answer = run({ user, group, chown: [] })
    t.equal(answer.error, `cannot drop privileges: ${error}`)
    t.equal(answer.ids?.uid, 0)
  }
  refused('no-such-user', 'backup', 'unknown user "no-such-user"')
  refused('backup', 'no-such-group', 'unknown group "no-such-group"')
  refused('34', 'backup', 'unknown user "34"') // an id is not a name
  refused('', 'backup', 'unknown user ""')
})

t.test('who is not root keeps what it has', { skip: isRoot && 'run as root' }, async (t) => {
  t.equal(dropPrivileges({ user: 'backup', group: 'backup', chown: ['/'] }), false)
})

t.test('after a drop a second one does nothing', asRoot, async (t) => {
  const script = `
    import { dropPrivileges } from ${JSON.stringify(MODULE)}
    const options = { user: 'backup', group: 'backup', chown: [] }
    console.log(dropPrivileges(options), dropPrivileges(options))
  `
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  t.equal(stdout, 'true false\n')
})
