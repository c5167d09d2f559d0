import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync } from 'node:fs'
import { link, mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { foreignFormat } from '../../../transfers/verify/foreign-format.js'
import { VERIFY_LIMITS } from '../../../transfers/verify/limited-child.js'
import { verifyVolume } from '../../../transfers/verify/verify.js'
import { run, without } from '../../support/tools.js'
import { until } from '../../support/wait.js'
import {
  MiB,
  SIZE,
  directory,
  newPath,
  qcow2,
  raw,
  refused,
  verifyCow,
  verifyRaw,
} from './images.js'

const skip = without('qemu-img', 'prlimit')

const VMDK = `# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW 8 FLAT "/etc/passwd" 0
`

t.test('raw disks', (t) => {
  t.test('of any bytes are accepted', async (t) => {
    const path = newPath(t)
    await writeFile(path, randomBytes(MiB))
    const result = await verifyRaw(path)
    t.match(result, { ok: true, virtualSize: MiB, warnings: [] })
    t.equal(result.ok && result.qcowVersion, undefined)
    t.equal(result.ok && result.actualSize, MiB)
  })
  t.test('that nobody wrote to are accepted', async (t) => {
    const path = newPath(t)
    await writeFile(path, '')
    await truncate(path, MiB)
    t.match(await verifyRaw(path), { ok: true, actualSize: 0 })
  })
  t.test('that are smaller are accepted with a warning, larger ones are not', async (t) => {
    const path = await raw(t)
    t.match(await verifyRaw(path, MiB + 1), { ok: true, warnings: [/fewer/] })
    t.match(await verifyRaw(path, MiB - 511), { ok: true }, 'allocated in whole sectors')
    refused(t, await verifyRaw(path, MiB - 512), /1048576 bytes, the disk/)
  })
  const headers = [
    ['qcow2', 'QFI\xfb\0\0\0\x03'],
    ['qcow', 'QFI\xfb\0\0\0\x01'],
    ['qed', 'QED\0'],
    ['vmdk', 'KDMV\x01\0\0\0'],
    ['vmdk', 'COWD\x01\0\0\0'],
    ['vmdk', VMDK],
    ['vmdk', `# comment\n\n  \r\nversion=1\r\n${VMDK}`],
    ['vhdx', 'vhdxfile'],
    ['vpc', 'conectix'],
    ['luks', 'LUKS\xba\xbe\0\x01'],
    ['luks', 'LUKS\xba\xbe\0\x02'],
    ['parallels', 'WithouFreSpacExt'],
    ['vdi', `${'<<< '.repeat(16)}\x7f\x10\xda\xbe`],
  ] as const
  for (const [format, head] of headers) {
    t.test(`that begin with a ${format} header are refused`, async (t) => {
      refused(t, await verifyRaw(await raw(t, head)), new RegExp(`with a ${format} header`))
    })
  }
  for (const format of ['qcow2', 'qed', 'vdi', 'vhdx', 'vmdk', 'vpc', 'qcow', 'parallels']) {
    t.test(`that are a ${format} image of qemu-img are refused`, { skip }, async (t) => {
      const path = newPath(t)
      await run('qemu-img', ['create', '-q', '-f', format, path, `${MiB * 8}`])
      refused(t, await verifyRaw(path, SIZE), new RegExp(`with a ${format} header`))
    })
  }
  for (const head of ['', '\xeb\x63\x90', '#!/bin/sh\necho version=1\n', '#\n#\n#', 'version']) {
    t.test(`that begin with ${JSON.stringify(head)} are accepted`, async (t) => {
      t.match(await verifyRaw(await raw(t, head)), { ok: true })
    })
  }
  t.test('of 8 EiB are refused', { skip: withoutShm() }, async (t) => {
    const shm = await mkdtemp('/dev/shm/imageio-verify-')
    t.teardown(() => rm(shm, { recursive: true }))
    const path = join(shm, 'volume')
    await run('truncate', ['--size', String(2n ** 63n - 4096n), path])
    refused(t, await verifyRaw(path), /9223372036854771712 bytes, the disk/)
    refused(t, await verifyCow(path), /no qcow2 image/)
  })
  t.end()
})

t.test('what qemu takes for a raw disk, is nobody’s header', { skip }, async (t) => {
  const path = newPath(t)
  for (let round = 0; round < 20; round++) {
    const head = randomBytes(512)
    await writeFile(path, Buffer.concat([head, Buffer.alloc(4096)]))
    const info = JSON.parse(await run('qemu-img', ['info', '--output=json', path])) as object
    t.match(info, { format: foreignFormat(head) ?? 'raw' })
  }
})

t.test('cow disks that are something else are refused', { skip }, (t) => {
  t.test('a VMDK descriptor that names a file of this machine', async (t) => {
    const path = newPath(t)
    await writeFile(path, VMDK)
    refused(t, await verifyCow(path), /no qcow2 image/)
  })
  t.test('guest data', async (t) => refused(t, await verifyCow(await raw(t)), /no qcow2 image/))
  for (const format of ['qed', 'vdi', 'vhdx', 'vmdk', 'vpc', 'qcow', 'luks']) {
    t.test(format, async (t) => {
      const path = newPath(t)
      if (format === 'luks') await writeFile(path, 'LUKS\xba\xbe\0\x01', 'latin1')
      else await run('qemu-img', ['create', '-q', '-f', format, path, `${8 * MiB}`])
      refused(t, await verifyCow(path), /no qcow2 image|version 1 is unknown/)
    })
  }
  t.end()
})

t.test('what is no regular file is refused, and not opened', { skip }, (t) => {
  const both = async (t: Test, path: string): Promise<void> => {
    refused(t, await verifyRaw(path), /no regular file/)
    refused(t, await verifyCow(path), /no regular file/)
  }
  t.test('a FIFO, without waiting for a writer', async (t) => {
    const path = newPath(t)
    await run('mkfifo', [path])
    await both(t, path)
  })
  t.test('a directory', async (t) => {
    const path = newPath(t)
    await mkdir(path)
    await both(t, path)
  })
  t.test('a link, also to a good image', async (t) => {
    const path = newPath(t)
    await symlink(await qcow2(t), path)
    await both(t, path)
  })
  t.test('a device', async (t) => both(t, '/dev/zero'))
  t.test('a file that has another name', async (t) => {
    const path = newPath(t)
    await link(await qcow2(t), path)
    refused(t, await verifyRaw(path), /2 names/)
    refused(t, await verifyCow(path), /2 names/)
  })
  t.end()
})

t.test('without an answer about the image there is no verdict', { skip }, (t) => {
  t.test('no such file: the storage may not be mounted', async (t) => {
    await t.rejects(verifyCow(newPath(t)), {
      name: 'VerificationError',
      message: /cannot read the volume: ENOENT/,
    })
  })
  t.test('no qemu-img', async (t) => {
    const path = await qcow2(t)
    await withPath(directory(t), () =>
      t.rejects(verifyCow(path), { name: 'VerificationError', message: /is not installed/ }),
    )
  })
  t.test('a qemu-img that cannot be loaded', async (t) => {
    const path = await qcow2(t)
    await withQemuImg(t, 'exec /nonexistent/qemu-img', () =>
      t.rejects(verifyCow(path), { message: /ended with status 127/ }),
    )
  })
  t.test('a qemu-img that somebody kills', async (t) => {
    const path = await qcow2(t)
    await withQemuImg(t, 'kill -KILL $$', () =>
      t.rejects(verifyCow(path), { message: /killed by SIGKILL/ }),
    )
  })
  t.test('a machine that has no more threads', async (t) => {
    const path = await qcow2(t)
    const said = 'qemu: qemu_thread_create: Resource temporarily unavailable'
    await withQemuImg(t, `echo ${quoted(said)} >&2; kill -ABRT $$`, () =>
      t.rejects(verifyCow(path), { message: /killed by SIGABRT/ }),
    )
  })
  t.test('storage that does not answer', async (t) => {
    const path = await qcow2(t)
    const volume = { path, format: 'cow', provisionedSize: SIZE } as const
    await withQemuImg(t, 'exec sleep 60', () =>
      t.rejects(verifyVolume(volume, { ...VERIFY_LIMITS, timeoutMs: 100 }), {
        message: /does not end/,
      }),
    )
  })
  t.test('storage that fails', async (t) => {
    const path = await qcow2(t)
    const script = 'echo "qemu-img: Could not open \'/x\': Input/output error" >&2; exit 1'
    await withQemuImg(t, script, () => t.rejects(verifyCow(path), { message: /Input\/output/ }))
  })
  t.test('a volume that is still written', async (t) => {
    const path = await qcow2(t)
    await withQemuImg(t, `touch ${path}; echo ${quoted(GOOD)}`, () =>
      t.rejects(verifyCow(path), { message: /was written while/ }),
    )
  })
  t.end()
})

t.test('a volume that is replaced meanwhile is refused', { skip }, async (t) => {
  const path = await qcow2(t)
  const other = await qcow2(t)
  await withQemuImg(t, `mv ${other} ${path}; echo ${quoted(GOOD)}`, async () =>
    refused(t, await verifyCow(path), /was replaced/),
  )
})

t.test('an image that hurts qemu is refused', { skip }, (t) => {
  const GUARDS = [
    ['crashes it', 'kill -SEGV $$', /SIGSEGV/],
    ['makes it abort', 'kill -ABRT $$', /SIGABRT/],
    ['keeps it busy', 'while :; do :; done', /SIGXCPU/],
    ['makes it write a file', 'echo more > "$0.out"', /SIGXFSZ/],
    ['makes it talk', 'exec cat /dev/zero', /tells too much/],
    ['makes it talk nonsense', 'echo {', /nonsense/],
    ['makes it say nothing', ':', /nonsense/],
    ['is another format', `echo '{"format":"raw","virtual-size":1}'`, /nonsense/],
    ['has another size', `echo '{"format":"qcow2","virtual-size":1024}'`, /qemu sees 1024 bytes/],
    [
      'has a backing file after all',
      `echo '{"format":"qcow2","virtual-size":${SIZE},"backing-filename":"x"}'`,
      /a file beside the image/,
    ],
    ['is no image', 'echo "qemu-img: Could not open \'x\': Bad" >&2; exit 1', /^qemu: Bad$/],
  ] as const
  for (const [name, script, reason] of GUARDS) {
    t.test(name, async (t) => {
      const path = await qcow2(t)
      const limits = { ...VERIFY_LIMITS, cpuSeconds: 1 }
      await withQemuImg(t, script, async () =>
        refused(
          t,
          await verifyVolume({ path, format: 'cow', provisionedSize: SIZE }, limits),
          reason,
        ),
      )
    })
  }
  t.end()
})

t.test('qemu-img is confined', { skip }, async (t) => {
  const path = await qcow2(t)
  const fifo = newPath(t)
  await run('mkfifo', [fifo])
  // A pipe: files cannot be written there.
  const reader = readFile(fifo, 'utf8')
  process.env['SECRET_OF_OURS'] = 'secret'
  t.teardown(() => delete process.env['SECRET_OF_OURS'])
  const script = `{ cat /proc/self/limits /proc/self/status; env; cat /proc/net/dev; echo "$@"; } >${fifo}
    echo ${quoted(GOOD)}`
  await withQemuImg(t, script, async () => t.match(await verifyCow(path), { ok: true }))
  const said = await reader
  t.match(said, /Max address space +1073741824 +1073741824/)
  t.match(said, /Max cpu time +30 +35/)
  t.match(said, /Max file size +0 +0/)
  t.match(said, /Max core file size +0 +0/)
  t.match(said, /NoNewPrivs:\t1/)
  t.match(said, /info -U -f qcow2 --output=json \/proc\/self\/fd\/3/)
  t.notMatch(said, /SECRET_OF_OURS/)
  if (await canUnshare()) t.same(said.match(/^ *\w+: /gm), ['    lo: '], 'no network')
})

t.test('qemu-img ends when we do', { skip: skip || without('sleep') }, async (t) => {
  const dir = directory(t)
  const path = await qcow2(t)
  const pidFile = join(dir, 'pid')
  await run('mkfifo', [pidFile])
  const module = new URL('../../../transfers/verify/verify.js', import.meta.url)
  const code = `import { verifyVolume } from ${JSON.stringify(module)}
    await verifyVolume({ path: ${JSON.stringify(path)}, format: 'cow', provisionedSize: ${SIZE} })`
  const reader = readFile(pidFile, 'utf8')
  await withQemuImg(t, `echo $$ >${pidFile}; exec sleep 100`, async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: 'ignore' })
    const pid = Number(await reader)
    t.ok(isRunning(pid))
    child.kill('SIGKILL')
    await until('qemu-img has ended', async () => !isRunning(pid))
  })
})

/** The file systems of disks have no files that large. */
function withoutShm(): string | false {
  return existsSync('/dev/shm') ? false : '/dev/shm is not there'
}

/** What qemu-img says about a good image. */
const GOOD = JSON.stringify({ format: 'qcow2', 'virtual-size': SIZE })

function quoted(text: string): string {
  return `'${text}'`
}

/** With a qemu-img of our own. */
async function withQemuImg(t: Test, script: string, body: () => unknown): Promise<void> {
  const dir = directory(t)
  const program = join(dir, 'qemu-img')
  await writeFile(program, `#!/bin/sh\n${script}\n`)
  chmodSync(program, 0o755)
  await withPath(`${dir}:${process.env['PATH'] ?? ''}`, body)
}

async function withPath(path: string, body: () => unknown): Promise<void> {
  const before = process.env['PATH']
  process.env['PATH'] = path
  try {
    await body()
  } finally {
    process.env['PATH'] = before
  }
}

function canUnshare(): Promise<boolean> {
  return run('unshare', ['--net', 'true']).then(
    () => true,
    () => false,
  )
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
