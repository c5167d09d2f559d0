/**
 * What qemu would take a raw disk for, if it were ever asked to guess. A guest, or who uploads its
 * disk, writes any bytes there; with the header of another format, whoever lets qemu guess later
 * would have it open the files that the header names. Nobody here does, but the disk outlives us.
 */

/** As many bytes as qemu looks at. */
export const PROBE_SIZE = 512

const MAGICS: readonly (readonly [string, string])[] = [
  ['QFI\xfb\0\0\0\x01', 'qcow'],
  ['QFI\xfb', 'qcow2'],
  ['QED\0', 'qed'],
  ['KDMV', 'vmdk'],
  ['COWD', 'vmdk'],
  ['# Disk DescriptorFile', 'vmdk'],
  ['vhdxfile', 'vhdx'],
  ['conectix', 'vpc'],
  ['LUKS\xba\xbe', 'luks'],
  ['WithoutFreeSpace', 'parallels'],
  ['WithouFreSpacExt', 'parallels'],
  ['Bochs Virtual HD Image', 'bochs'],
  ['#!/bin/sh\n#V2.0 Format\nmodprobe cloop', 'cloop'],
]

/** The text form of VMDK: comments and empty lines may come first. */
const VMDK_DESCRIPTOR = /^(?:#[^\n]*\n| *\r?\n)*version=[0-9]\r?\n/

const VDI_SIGNATURE = 0xbe_da_10_7f
const VDI_SIGNATURE_OFFSET = 64

/** Undefined when the first bytes of a file are nobody's header. */
export function foreignFormat(head: Buffer): string | undefined {
  const text = head.subarray(0, PROBE_SIZE).toString('latin1')
  const format = MAGICS.find(([magic]) => text.startsWith(magic))?.[1]
  if (format !== undefined) return format
  if (VMDK_DESCRIPTOR.test(text)) return 'vmdk'
  const end = VDI_SIGNATURE_OFFSET + 4
  const isVdi = head.length >= end && head.readUInt32LE(VDI_SIGNATURE_OFFSET) === VDI_SIGNATURE
  return isVdi ? 'vdi' : undefined
}
