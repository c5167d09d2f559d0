import t from 'tap'
import type { GuestImage } from '../../start/image.js'
import { qemuNbdArguments } from '../../start/qemu-nbd.js'

const IMAGE: GuestImage = {
  path: '/a.qcow2',
  size: 1,
  isWritable: false,
  isSparse: false,
  guest: { format: 'qcow2', size: 1, otherFiles: [] },
}
const FILES = { socket: '/s', pidFile: '/p' }
const line = (image: GuestImage, canTellDepth: boolean, isDirect: boolean) =>
  qemuNbdArguments(image, { canTellDepth, isDirect }, FILES).join(' ')

const ALWAYS = '--persistent --shared=0 -k /s --pid-file=/p -f qcow2'

t.test('read only unless told', async (t) => {
  t.equal(line(IMAGE, false, false), `${ALWAYS} -r /a.qcow2`)
  t.equal(line({ ...IMAGE, isWritable: true }, false, false), `${ALWAYS} /a.qcow2`)
})

t.test('what machine and storage can do is used', async (t) => {
  const all = '--cache=none --aio=native --allocation-depth'
  t.equal(line(IMAGE, true, true), `${ALWAYS} -r ${all} /a.qcow2`)
})

t.test('space is given back only when that is wanted', async (t) => {
  const unmap = '--discard=unmap --detect-zeroes=unmap'
  const image = { ...IMAGE, isSparse: true }
  t.equal(line({ ...image, isWritable: true }, false, false), `${ALWAYS} ${unmap} /a.qcow2`)
  t.equal(line(image, false, false), `${ALWAYS} -r /a.qcow2`)
})

t.test('a bitmap is exported by its name', async (t) => {
  const image = { ...IMAGE, guest: { ...IMAGE.guest, bitmap: 'b 0' } }
  t.equal(line(image, false, false), `${ALWAYS} -r --bitmap=b 0 /a.qcow2`)
})
