import t from 'tap'
import { SystemError } from '../../../native/index.js'
import {
  waysToZero,
  zeroByCalls,
  type Circumstances,
  type ZeroCall,
} from '../../../daemon/backends/zero.js'

const file = { isBlockDevice: false, mayPunchHole: false, isBeyondEnd: false }
const device = { ...file, isBlockDevice: true }

/** Goes the ways on storage that answers some calls with an error code. */
async function zeroOn(
  answers: Partial<Record<ZeroCall, string>>,
  circumstances: Circumstances,
  refused = new Set<string>(),
) {
  const calls: ZeroCall[] = []
  const done = await zeroByCalls(waysToZero(circumstances), refused, async (name) => {
    calls.push(name)
    const code = answers[name]
    if (code !== undefined) throw new SystemError(code, -1, 'fallocate', 'test')
  })
  return { calls, done, refused: [...refused] }
}

t.test('a preallocated file is zeroed by one call', async (t) => {
  t.same(await zeroOn({}, file), { calls: ['zero-range'], done: true, refused: [] })
})

t.test('without zero-range a hole is punched and filled', async (t) => {
  t.same(await zeroOn({ 'zero-range': 'EOPNOTSUPP' }, file), {
    calls: ['zero-range', 'punch-hole', 'allocate'],
    done: true,
    refused: ['zero-range'],
  })
})

t.test('without either only what is behind the end is allocated', async (t) => {
  const answers = { 'zero-range': 'ENOTSUP', 'punch-hole': 'EOPNOTSUPP' }
  const inside = await zeroOn(answers, file)
  t.same(inside, { calls: ['zero-range', 'punch-hole'], done: false, refused: inside.refused })
  const behind = await zeroOn(answers, { ...file, isBeyondEnd: true })
  t.same(behind.calls, ['zero-range', 'punch-hole', 'allocate'])
  t.equal(behind.done, true)
})

t.test('a hole that cannot be filled again is left to writing', async (t) => {
  const { done, refused } = await zeroOn({ 'zero-range': 'ENOSYS', allocate: 'EOPNOTSUPP' }, file)
  t.equal(done, false)
  t.same(refused, ['zero-range', 'allocate'])
})

t.test('a sparse file is punched and never allocated', async (t) => {
  const sparse = { ...file, mayPunchHole: true }
  t.same((await zeroOn({}, sparse)).calls, ['punch-hole'])
  const { calls, done } = await zeroOn({ 'punch-hole': 'EOPNOTSUPP' }, sparse)
  t.same([calls, done], [['punch-hole'], false])
})

t.test('a device is not punched unless it may be', async (t) => {
  t.same((await zeroOn({}, device)).calls, ['zero-range'])
  const { calls, done } = await zeroOn({ 'zero-range': 'ENODEV' }, device)
  t.same([calls, done], [['zero-range', 'zero-out'], true])
})

t.test('a device that may be punched goes all ways', async (t) => {
  const answers = { 'punch-hole': 'EOPNOTSUPP', 'zero-range': 'ENODEV', 'zero-out': 'ENOTTY' }
  const { calls, done, refused } = await zeroOn(answers, { ...device, mayPunchHole: true })
  t.same(calls, ['punch-hole', 'zero-range', 'zero-out'])
  t.equal(done, false)
  t.same(refused, ['punch-hole', 'zero-range', 'zero-out'])
})

t.test('what was refused is not asked again', async (t) => {
  const refused = new Set(['zero-range'])
  t.same((await zeroOn({}, file, refused)).calls, ['punch-hole', 'allocate'])
})

t.test('EINVAL may be a matter of the range and is not remembered', async (t) => {
  const { calls, refused } = await zeroOn({ 'zero-range': 'EINVAL' }, file)
  t.same(calls, ['zero-range', 'punch-hole', 'allocate'])
  t.same(refused, [])
})

t.test('any other error is the storage failing, not a reason to go on', async (t) => {
  for (const code of ['EIO', 'ENOSPC', 'EPERM', 'ETXTBSY', 'EFBIG'])
    await t.rejects(zeroOn({ 'zero-range': code }, file), { code })
  await t.rejects(zeroOn({ 'zero-range': 'ENOTSUP', allocate: 'ENOSPC' }, file), { code: 'ENOSPC' })
})
