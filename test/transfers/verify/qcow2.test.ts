import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { run, without } from '../../support/tools.js'
import {
  CLUSTER,
  EXTENSIONS,
  MiB,
  SIZE,
  newPath,
  patch,
  qcow2,
  refused,
  setBit,
  setExtensions,
  u32,
  u64,
  verifyCow,
} from './images.js'

const skip = without('qemu-img', 'qemu-io', 'prlimit')

const VERSION = 4
const BACKING_OFFSET = 8
const BACKING_SIZE = 16
const CLUSTER_BITS = 20
const VIRTUAL_SIZE = 24
const CRYPT_METHOD = 32
const L1_SIZE = 36
const L1_OFFSET = 40
const REFCOUNT_OFFSET = 48
const REFCOUNT_CLUSTERS = 56
const SNAPSHOTS = 60
const SNAPSHOTS_OFFSET = 64
const INCOMPATIBLE = 72
const AUTOCLEAR = 88
const REFCOUNT_ORDER = 96
const HEADER_LENGTH = 100

t.test('what qemu-img makes is accepted', { skip }, (t) => {
  const options = [
    'compat=1.1',
    'compat=1.1,lazy_refcounts=on',
    'compat=1.1,cluster_size=512',
    'compat=1.1,cluster_size=2M',
    'compat=1.1,extended_l2=on',
    'compat=1.1,compression_type=zstd',
    'compat=1.1,refcount_bits=1',
    'compat=1.1,refcount_bits=64',
    'compat=1.1,preallocation=metadata',
    'compat=1.1,preallocation=falloc',
  ]
  for (const option of options) {
    t.test(option, async (t) => {
      const result = await verifyCow(await qcow2(t, { options: option }))
      t.match(result, { ok: true, qcowVersion: 'qcow2_v3', virtualSize: SIZE, warnings: [] })
    })
  }
  t.test('the old version', async (t) => {
    const path = await qcow2(t, { options: 'compat=0.10' })
    t.match(await verifyCow(path), { ok: true, qcowVersion: 'qcow2_v2', virtualSize: SIZE })
  })
  t.test('with data, bitmaps and snapshots', async (t) => {
    const path = await qcow2(t)
    await run('qemu-io', ['-f', 'qcow2', '-c', 'write -P 7 1M 2M', path])
    await run('qemu-img', ['bitmap', '-f', 'qcow2', '--add', path, 'checkpoint'])
    await run('qemu-img', ['snapshot', '-c', 'before', path])
    const result = await verifyCow(path)
    t.match(result, { ok: true, warnings: [] })
    t.ok(result.ok && result.actualSize >= 2 * MiB, 'allocated')
  })
  t.test('compressed, as clients upload it', async (t) => {
    const [source, path] = [newPath(t), newPath(t)]
    await writeFile(source, Buffer.alloc(MiB, 'data'))
    await run('qemu-img', ['convert', '-c', '-f', 'raw', '-O', 'qcow2', source, path])
    t.match(await verifyCow(path, MiB), { ok: true, warnings: [] })
  })
  t.test('as large as clients ask for', async (t) => {
    const size = 100 * 1024 ** 4
    t.match(await verifyCow(await qcow2(t, { size }), size), { ok: true, virtualSize: size })
  })
  t.end()
})

t.test('a smaller image is accepted with a warning, a larger one is not', { skip }, async (t) => {
  const path = await qcow2(t)
  t.match(await verifyCow(path, SIZE + 512), { ok: true, warnings: [/fewer than the disk's/] })
  refused(t, await verifyCow(path, SIZE - 512), /67108864 bytes, the disk 67108352/)
})

t.test('an image that was not closed is accepted with a warning', { skip }, async (t) => {
  const path = await qcow2(t, { options: 'compat=1.1,lazy_refcounts=on' })
  await setBit(path, INCOMPATIBLE, 0)
  t.match(await verifyCow(path), { ok: true, warnings: [/not closed/] })
})

t.test('a backing file is refused, whatever its name', { skip }, (t) => {
  const names = [
    '/etc/passwd',
    '../base.qcow2',
    'file:///etc/passwd',
    'nbd://127.0.0.1:1/x',
    'json:{"driver":"file","filename":"/etc/passwd"}',
    'fat:/etc',
  ]
  for (const name of names) {
    t.test(name, async (t) => {
      const path = await qcow2(t, { args: ['-u', '-b', name, '-F', 'raw'] })
      refused(t, await verifyCow(path), /has a backing file/)
    })
  }
  t.test('of the old version', async (t) => {
    const args = ['-u', '-b', '/etc/passwd', '-F', 'raw']
    refused(t, await verifyCow(await qcow2(t, { options: 'compat=0.10', args })), /backing file/)
  })
  t.test('at an impossible place', async (t) => {
    const path = await qcow2(t)
    await patch(path, BACKING_OFFSET, u64(2n ** 64n - 1n))
    await patch(path, BACKING_SIZE, u32(0xffff_ffff))
    refused(t, await verifyCow(path), /has a backing file/)
  })
  t.end()
})

t.test('an external data file is refused', { skip }, (t) => {
  const made = async (t: Test, options: string): Promise<string> => {
    const data = join(newPath(t), '..', 'data')
    return qcow2(t, { options: `compat=1.1,data_file=${data},${options}` })
  }
  t.test('made by qemu-img', async (t) => {
    refused(t, await verifyCow(await made(t, 'data_file_raw=off')), /external data file/)
  })
  t.test('a raw one', async (t) => {
    refused(t, await verifyCow(await made(t, 'data_file_raw=on')), /external data file/)
  })
  t.test('by the bit alone', async (t) => {
    const path = await qcow2(t)
    await setBit(path, INCOMPATIBLE, 2)
    refused(t, await verifyCow(path), /external data file/)
  })
  t.test('by the bit of raw ones alone', async (t) => {
    const path = await qcow2(t)
    await setBit(path, AUTOCLEAR, 1)
    refused(t, await verifyCow(path), /external data file/)
  })
  t.test('by the name alone', async (t) => {
    const path = await qcow2(t)
    await setExtensions(path, [0x44_41_54_41, Buffer.from('/etc/passwd')])
    refused(t, await verifyCow(path), /names an external data file/)
  })
  t.end()
})

t.test('an encrypted image is refused', { skip }, (t) => {
  for (const method of [1, 2, 77]) {
    t.test(`method ${method}`, async (t) => {
      const path = await qcow2(t)
      await patch(path, CRYPT_METHOD, u32(method))
      refused(t, await verifyCow(path), /encrypted/)
    })
  }
  t.test('made by qemu-img', async (t) => {
    const args = ['--object', 'secret,id=s,data=secret']
    const options = 'encrypt.format=aes,encrypt.key-secret=s'
    refused(t, await verifyCow(await qcow2(t, { options, args })), /encrypted/)
  })
  t.test('by its header extension alone', async (t) => {
    const path = await qcow2(t)
    await setExtensions(path, [0x05_37_be_77, Buffer.alloc(16)])
    refused(t, await verifyCow(path), /encrypted/)
  })
  t.end()
})

t.test('headers that no honest program writes are refused', { skip }, (t) => {
  const END = 2n ** 62n
  const cases: readonly (readonly [string, number, Buffer, RegExp])[] = [
    ['version 1', VERSION, u32(1), /version 1 is unknown/],
    ['version 4', VERSION, u32(4), /version 4 is unknown/],
    ...[0, 8, 22, 255, 0xffff_ffff].map(
      (bits) => [`clusters of 2^${bits}`, CLUSTER_BITS, u32(bits), /not supported/] as const,
    ),
    ['a virtual size of 16 EiB', VIRTUAL_SIZE, u64(2n ** 64n - 1n), /L1 table is too small/],
    ['a larger size than the tables', VIRTUAL_SIZE, u64(2n ** 40n), /L1 table is too small/],
    ['an L1 table of 2^31 entries', L1_SIZE, u32(2 ** 31), /2147483648 entries/],
    ['an L1 table of 2^22 entries', L1_SIZE, u32(2 ** 22), /ends before the L1 table does/],
    ['no L1 table', L1_SIZE, u32(0), /L1 table is too small/],
    ['an L1 table far away', L1_OFFSET, u64(END), /ends before the L1 table/],
    ['an L1 table at the end', L1_OFFSET, u64(2n ** 64n - 65_536n), /ends before the L1 table/],
    ['an L1 table inside a cluster', L1_OFFSET, u64(CLUSTER + 8), /does not begin with a cluster/],
    ['an L1 table in the header', L1_OFFSET, u64(0), /the header and the L1 table overlap/],
    [
      'an L1 table in the reference counts',
      L1_OFFSET,
      u64(CLUSTER),
      /L1 table .*count table overlap/,
    ],
    ['reference counts in the L1 table', REFCOUNT_OFFSET, u64(3 * CLUSTER), /L1 table .*overlap/],
    ['reference counts up to the L1 table', REFCOUNT_CLUSTERS, u32(3), /L1 table overlap/],
    ['reference counts far away', REFCOUNT_OFFSET, u64(END), /ends before the reference count/],
    ['reference counts inside a cluster', REFCOUNT_OFFSET, u64(CLUSTER + 8), /does not begin/],
    ['no reference counts', REFCOUNT_OFFSET, u64(0), /no reference count table/],
    ['no clusters of them', REFCOUNT_CLUSTERS, u32(0), /table has 0 clusters/],
    ['too many of them', REFCOUNT_CLUSTERS, u32(0xffff_ffff), /4294967295 clusters/],
    ['more of them than the file has', REFCOUNT_CLUSTERS, u32(128), /ends before the reference/],
    ['reference counts of 128 bits', REFCOUNT_ORDER, u32(7), /reference counts of 2\^7/],
    ['the corrupt bit', INCOMPATIBLE, u64(1n << 1n), /marked as corrupt/],
    ['an unknown feature', INCOMPATIBLE, u64(1n << 5n), /features 0x20 are unknown/],
    ['the last feature', INCOMPATIBLE, u64(1n << 63n), /0x8000000000000000 are unknown/],
    ['a compression type that is not there', INCOMPATIBLE, u64(1n << 3n), /compression type/],
    ['a compression type not declared', 104, Buffer.from([1]), /compression type 1/],
    ['a header of no length', HEADER_LENGTH, u32(0), /has no 0 bytes/],
    ['an odd header', HEADER_LENGTH, u32(113), /has no 113 bytes/],
    ['a header larger than a cluster', HEADER_LENGTH, u32(CLUSTER + 8), /has no 65544 bytes/],
    ['a huge header', HEADER_LENGTH, u32(0xffff_ffff), /has no 4294967295 bytes/],
    ['too many snapshots', SNAPSHOTS, u32(0xffff_ffff), /4294967295 internal snapshots/],
  ]
  for (const [name, offset, bytes, reason] of cases) {
    t.test(name, async (t) => {
      const path = await qcow2(t)
      await patch(path, offset, bytes)
      refused(t, await verifyCow(path), reason)
    })
  }
  t.test('extended L2 entries in small clusters', async (t) => {
    const path = await qcow2(t, { options: 'compat=1.1,cluster_size=8k' })
    await setBit(path, INCOMPATIBLE, 4)
    refused(t, await verifyCow(path), /too small for extended/)
  })
  t.test('an unknown compression type', async (t) => {
    const path = await qcow2(t, { options: 'compat=1.1,compression_type=zstd' })
    await patch(path, 104, Buffer.from([2]))
    refused(t, await verifyCow(path), /compression type 2/)
  })
  t.end()
})

t.test('header extensions', { skip }, (t) => {
  const BITMAPS = 0x23_85_28_75
  const bitmaps = (count: number, size: bigint, offset: bigint): Buffer =>
    Buffer.concat([u32(count), u32(0), u64(size), u64(offset)])

  t.test('one that nobody knows is accepted', async (t) => {
    const path = await qcow2(t)
    await setExtensions(path, [0x12_34_56_78, Buffer.from('whatever')])
    t.match(await verifyCow(path), { ok: true })
  })
  t.test('a length beyond the cluster', async (t) => {
    const path = await qcow2(t)
    await setExtensions(path, [0x12_34_56_78, Buffer.alloc(8), 0xffff_ffff])
    refused(t, await verifyCow(path), /header extension has 4294967295 bytes/)
  })
  t.test('a length that just leaves the cluster', async (t) => {
    const path = await qcow2(t)
    await setExtensions(path, [0x12_34_56_78, Buffer.alloc(8), CLUSTER - EXTENSIONS - 8 + 1])
    refused(t, await verifyCow(path), /header extension has/)
  })
  t.test('a list that fills the cluster and has no end', async (t) => {
    const path = await qcow2(t)
    const one = Buffer.concat([u32(0x12_34_56_78), u32(0)])
    const count = (CLUSTER - EXTENSIONS) / one.length
    await patch(path, EXTENSIONS, Buffer.concat(Array<Buffer>(count).fill(one)))
    t.match(await verifyCow(path), { ok: true })
  })
  t.test('a directory of bitmaps in the L1 table', async (t) => {
    const path = await qcow2(t)
    await setBit(path, AUTOCLEAR, 0)
    await truncate(path, 4 * CLUSTER)
    await setExtensions(path, [BITMAPS, bitmaps(1, 64n, 3n * BigInt(CLUSTER))])
    refused(t, await verifyCow(path), /overlap/)
  })
  t.test('bombs of bitmaps', async (t) => {
    const bombs = [
      bitmaps(0xffff_ffff, 64n, BigInt(CLUSTER)),
      bitmaps(1, 2n ** 63n, BigInt(CLUSTER)),
      bitmaps(1, 64n, 2n ** 63n),
      bitmaps(1, 64n, 100n),
      bitmaps(1, 64n, 0n).subarray(0, 20),
    ]
    for (const bomb of bombs) {
      const path = await qcow2(t)
      await setBit(path, AUTOCLEAR, 0)
      await setExtensions(path, [BITMAPS, bomb])
      refused(t, await verifyCow(path), /bitmaps|ends before the directory/)
    }
  })
  t.end()
})

t.test('tables of snapshots', { skip }, (t) => {
  const snapshots = async (t: Test, count: number, entry: Buffer): Promise<string> => {
    const path = await qcow2(t)
    const at = 4 * CLUSTER
    await truncate(path, at + CLUSTER)
    await patch(path, at, entry)
    await patch(path, SNAPSHOTS, u32(count))
    await patch(path, SNAPSHOTS_OFFSET, u64(at))
    return path
  }
  const entry = (l1Offset: bigint, l1Size: number, extra: number): Buffer => {
    const bytes = Buffer.alloc(40)
    u64(l1Offset).copy(bytes, 0)
    u32(l1Size).copy(bytes, 8)
    u32(extra).copy(bytes, 36)
    return bytes
  }
  const cases: readonly (readonly [string, number, Buffer, RegExp])[] = [
    ['with a huge L1 table', 1, entry(0n, 0xffff_ffff, 16), /malformed/],
    ['with an L1 table outside', 1, entry(2n ** 62n, 1, 16), /ends before the L1 table of a snap/],
    ['with an L1 table inside a cluster', 1, entry(8n, 1, 16), /does not begin with a cluster/],
    [
      'with an L1 table in the header',
      1,
      entry(0n, 1, 16),
      /header and the L1 table of a snapshot/,
    ],
    ['with the active L1 table', 1, entry(3n * BigInt(CLUSTER), 1, 16), /overlap/],
    ['with huge extra data', 1, entry(0n, 1, 0xffff_ffff), /malformed/],
    ['that go on behind the file', 1024, entry(0n, 1, 1000), /ends before the table of snapshots/],
  ]
  for (const [name, count, bytes, reason] of cases) {
    t.test(name, async (t) => {
      const path = await snapshots(t, count, Buffer.concat(Array<Buffer>(1600).fill(bytes)))
      refused(t, await verifyCow(path), reason)
    })
  }
  t.test('far away', async (t) => {
    const path = await qcow2(t)
    await patch(path, SNAPSHOTS, u32(1))
    await patch(path, SNAPSHOTS_OFFSET, u64(2n ** 63n))
    refused(t, await verifyCow(path), /ends before the table of snapshots/)
  })
  t.test('in the L1 table', async (t) => {
    const path = await snapshots(t, 1, entry(0n, 0, 16))
    await patch(path, SNAPSHOTS_OFFSET, u64(3 * CLUSTER))
    refused(t, await verifyCow(path), /overlap/)
  })
  t.end()
})

t.test('files that end too early are refused', { skip }, async (t) => {
  for (const options of ['compat=1.1', 'compat=0.10']) {
    const whole = await readFile(await qcow2(t, { options }))
    const path = newPath(t)
    for (const size of [0, 1, 4, 7, 8, 71, 103, 512, CLUSTER, 2 * CLUSTER, 3 * CLUSTER]) {
      await writeFile(path, whole.subarray(0, size))
      refused(t, await verifyCow(path), /no qcow2 image|ends/)
    }
  }
})
