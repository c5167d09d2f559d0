import { createRequire } from 'node:module'
import t from 'tap'

type Call = (...args: unknown[]) => unknown

// Without the door's types, as a mistake in the daemon would call it.
const addon = createRequire(import.meta.url)('#addon') as Record<string, Call>

const BUFFER = Buffer.alloc(1)
const WRONG_TYPES = [undefined, null, '1', 1n, {}, [], true, Symbol('one')]
const WRONG_NUMBERS = [-1, 1.5, NaN, Infinity, -Infinity, 2 ** 53, Number.MIN_VALUE]

/** For each function right arguments, with the kind of each. */
const CALLS: readonly [name: string, kinds: string][] = [
  ['allocateAligned', 'n'],
  ['isAligned', 'bn'],
  ['openPath', 's'],
  ['reopen', 'nff'],
  ['descriptorPath', 'n'],
  ['closeDescriptor', 'n'],
  ['status', 'n'],
  ['pread', 'nbn'],
  ['pwrite', 'nbn'],
  ['fdatasync', 'n'],
  ['truncate', 'nn'],
  ['fallocate', 'nnnn'],
  ['blockDeviceSize', 'n'],
  ['blockDeviceSectorSize', 'n'],
  ['blockDeviceZeroOut', 'nnn'],
  ['blockDeviceDiscard', 'nnn'],
  ['dataRanges', 'nnnn'],
  ['isLocked', 'nnn'],
  ['exit', 'n'],
  ['createDigest', 's'],
  ['updateDigest', 'hb'],
  ['updateDigestNow', 'hb'],
  ['readDigest', 'hnbnn'],
  ['finishDigest', 'h'],
  ['peerCredentials', 'n'],
  ['hasPeerEnded', 'n'],
  ['sendDatagram', 'ss'],
  ['connectUnix', 's'],
]

// No such descriptor: a check that lets something through ends in EBADF, not in a file.
const RIGHT: Readonly<Record<string, unknown>> = {
  n: 65_536,
  b: BUFFER,
  s: '/',
  f: false,
  h: addon['createDigest']!('md5'),
}

function called(name: string, kinds: string, index: number, value: unknown): () => unknown {
  const args = Array.from(kinds, (kind) => RIGHT[kind])
  args[index] = value
  return () => addon[name]!(...args)
}

for (const [name, kinds] of CALLS) {
  t.test(`${name} throws at once for wrong arguments`, async (t) => {
    Array.from(kinds).forEach((kind, index) => {
      for (const wrong of WRONG_TYPES) {
        if (typeof wrong === typeof RIGHT[kind] && !'bh'.includes(kind)) continue
        t.throws(
          called(name, kinds, index, wrong),
          { name: 'TypeError' },
          `${index}: ${typeof wrong}`,
        )
      }
      if (kind !== 'n') return
      for (const wrong of WRONG_NUMBERS) {
        t.throws(called(name, kinds, index, wrong), { name: 'RangeError' }, `${index}: ${wrong}`)
      }
    })
    t.throws(() => addon[name]!(), { name: 'TypeError' }, 'none at all')
  })
}

t.test('every function is among these', async (t) => {
  const functions = Object.keys(addon).filter((name) => typeof addon[name] === 'function')
  t.same(
    functions.toSorted(),
    [...CALLS.map(([name]) => name), 'FrontDoor', 'NbdDoor', 'setErrorClass'].toSorted(),
  )
})

t.test('descriptors are 32 bits wide', async (t) => {
  t.throws(() => addon['status']!(2 ** 31), { name: 'RangeError', message: /fd/ })
})

t.test('paths have no NUL and are not empty', async (t) => {
  for (const path of ['', '/dev/null\0.qcow2']) {
    t.throws(() => addon['openPath']!(path), { name: 'TypeError', message: /path/ })
  }
  t.throws(() => addon['sendDatagram']!('', 'x'), { name: 'TypeError' })
  t.throws(() => addon['sendDatagram']!('/run/x\0y', 'x'), { name: 'TypeError' })
})

t.test('sizes and alignments that make no sense', async (t) => {
  t.throws(() => addon['allocateAligned']!(0), { name: 'RangeError' })
  t.throws(() => addon['isAligned']!(BUFFER, 0), { name: 'RangeError' })
  t.throws(() => addon['isAligned']!(BUFFER, 3), { name: 'RangeError' })
  t.throws(() => addon['dataRanges']!(0, 2, 1, 1), { name: 'RangeError', message: /end/ })
  t.throws(() => addon['dataRanges']!(0, 0, 1, 0), { name: 'RangeError', message: /limit/ })
  t.throws(() => addon['fallocate']!(0, 2 ** 31, 0, 1), { name: 'RangeError', message: /mode/ })
  t.throws(() => addon['setErrorClass']!({}), { name: 'TypeError' })
})
