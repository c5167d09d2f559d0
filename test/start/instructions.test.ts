import t from 'tap'
import { instructions } from '../../start/instructions.js'
import type { ServedImage } from '../../start/tickets.js'

const PLACE = {
  origin: 'https://127.0.0.1:1',
  caFile: '/ca.pem',
  dataSocket: '/data.sock',
  confDir: '/conf',
  imageioctl: '/imageioctl',
  isPublic: false,
}

function image(path: string, more: Partial<ServedImage> = {}): ServedImage {
  return { path, size: 1, isWritable: false, isSparse: false, ticketId: path.slice(1), ...more }
}

const QCOW2 = { guest: { format: 'qcow2', size: 1, otherFiles: [] } } as const

t.test('no copy of one image overwrites that of another', async (t) => {
  const images = [
    image('/a/disk.qcow2', QCOW2),
    image('/a/disk.vmdk', QCOW2),
    image('/a/disk-2.qcow2', QCOW2),
    image('/b/disk.qcow2', QCOW2),
    image('/a/disk.img'),
    image('/b/disk.img'),
  ]
  const text = instructions(PLACE, images)
  const copiesOf = (name: string, line: RegExp): (string | undefined)[] =>
    text
      .split('\n')
      .filter((one) => one.startsWith(`  ${name} `))
      .map((one) => line.exec(one)?.[1])
  t.strictSame(copiesOf('download', /-o (\S+)/), [
    'disk.copy.raw',
    'disk-2.copy.raw',
    'disk-2-2.copy.raw',
    'disk-3.copy.raw',
    'disk.img.copy',
    'disk.img-2.copy',
  ])
  t.strictSame(copiesOf('as qcow2', /(\S+\.copy\.qcow2)/), [
    'disk.copy.qcow2',
    'disk-2.copy.qcow2',
    'disk-2-2.copy.qcow2',
    'disk-3.copy.qcow2',
  ])
})

t.test('an image of which not all is known has a warning', async (t) => {
  const guest = { ...QCOW2.guest, isUnsure: true } as const
  t.match(
    instructions(PLACE, [image('/a/disk.qcow2', { guest })]),
    '\n  WARNING: there is too much',
  )
  t.notMatch(instructions(PLACE, [image('/a/disk.qcow2', QCOW2)]), 'WARNING')
})
