/** The fixed fields of a qcow2 header (docs/interop/qcow2.txt of qemu), in their permitted ranges. */
import { ImageRefused } from './image-file.js'

export interface Qcow2Header {
  readonly version: 2 | 3
  /** Where the header extensions begin. */
  readonly headerLength: number
  readonly clusterSize: number
  /** 16 with extended L2 entries. */
  readonly l2EntrySize: 8 | 16
  /** Bytes the guest sees. */
  readonly virtualSize: bigint
  readonly backingFileOffset: bigint
  readonly hasDataFile: boolean
  readonly cryptMethod: number
  /** Its reference counts may be wrong after a crash; qemu repairs that when it writes. */
  readonly isDirty: boolean
  readonly isCorrupt: boolean
  /** The header extension of the bitmaps is up to date, so that qemu reads it. */
  readonly hasBitmaps: boolean
  readonly l1Size: number
  readonly l1TableOffset: bigint
  readonly refcountTableOffset: bigint
  readonly refcountTableClusters: number
  readonly snapshotCount: number
  readonly snapshotsOffset: bigint
}

const MAGIC = 0x51_46_49_fb
const V2_LENGTH = 72
const V3_LENGTH = 104
const MIN_CLUSTER_BITS = 9
const MAX_CLUSTER_BITS = 21
/** Reference counts of 64 bits. */
const MAX_REFCOUNT_ORDER = 6

/** Incompatible features: who does not know one must not open the image. */
const DIRTY = 1n << 0n
const CORRUPT = 1n << 1n
const DATA_FILE = 1n << 2n
const COMPRESSION_TYPE = 1n << 3n
const EXTENDED_L2 = 1n << 4n
const KNOWN_FEATURES = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2
/** Extended L2 entries divide a cluster in 32, none below a sector. */
const MIN_EXTENDED_CLUSTER_BITS = 14

/** Autoclear features: who does not know one, clears it. */
const BITMAPS = 1n << 0n
const RAW_DATA_FILE = 1n << 1n

const ZLIB = 0
const ZSTD = 1

/** `bytes` are the first of the file, fewer than asked when it is shorter. Throws ImageRefused. */
export function decodeHeader(bytes: Buffer): Qcow2Header {
  if (bytes.length < 8 || bytes.readUInt32BE(0) !== MAGIC) {
    throw new ImageRefused('the file is no qcow2 image')
  }
  const version = bytes.readUInt32BE(4)
  if (version !== 2 && version !== 3) throw new ImageRefused(`qcow2 version ${version} is unknown`)
  if (bytes.length < (version === 2 ? V2_LENGTH : V3_LENGTH)) {
    throw new ImageRefused('the file ends inside the qcow2 header')
  }
  const clusterBits = bytes.readUInt32BE(20)
  if (clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS) {
    throw new ImageRefused(`clusters of 2^${clusterBits} bytes are not supported`)
  }
  return {
    version,
    clusterSize: 1 << clusterBits,
    backingFileOffset: bytes.readBigUInt64BE(8),
    virtualSize: bytes.readBigUInt64BE(24),
    cryptMethod: bytes.readUInt32BE(32),
    l1Size: bytes.readUInt32BE(36),
    l1TableOffset: bytes.readBigUInt64BE(40),
    refcountTableOffset: bytes.readBigUInt64BE(48),
    refcountTableClusters: bytes.readUInt32BE(56),
    snapshotCount: bytes.readUInt32BE(60),
    snapshotsOffset: bytes.readBigUInt64BE(64),
    ...(version === 2 ? VERSION_2 : decodeVersion3(bytes, clusterBits)),
  }
}

type Version3Fields = Pick<
  Qcow2Header,
  'headerLength' | 'l2EntrySize' | 'hasDataFile' | 'isDirty' | 'isCorrupt' | 'hasBitmaps'
>

const VERSION_2: Version3Fields = {
  headerLength: V2_LENGTH,
  l2EntrySize: 8,
  hasDataFile: false,
  isDirty: false,
  isCorrupt: false,
  hasBitmaps: false,
}

function decodeVersion3(bytes: Buffer, clusterBits: number): Version3Fields {
  const incompatible = bytes.readBigUInt64BE(72)
  const autoclear = bytes.readBigUInt64BE(88)
  const headerLength = bytes.readUInt32BE(100)
  const unknown = incompatible & ~KNOWN_FEATURES
  if (unknown !== 0n) {
    throw new ImageRefused(`incompatible features 0x${unknown.toString(16)} are unknown`)
  }
  if (headerLength < V3_LENGTH || headerLength % 8 !== 0 || headerLength > 1 << clusterBits) {
    throw new ImageRefused(`a qcow2 header has no ${headerLength} bytes`)
  }
  const refcountOrder = bytes.readUInt32BE(96)
  if (refcountOrder > MAX_REFCOUNT_ORDER) {
    throw new ImageRefused(`reference counts of 2^${refcountOrder} bits are not supported`)
  }
  const isExtended = (incompatible & EXTENDED_L2) !== 0n
  if (isExtended && clusterBits < MIN_EXTENDED_CLUSTER_BITS) {
    throw new ImageRefused('the clusters are too small for extended L2 entries')
  }
  checkCompression(bytes, headerLength, (incompatible & COMPRESSION_TYPE) !== 0n)
  return {
    headerLength,
    l2EntrySize: isExtended ? 16 : 8,
    // The raw one is a data file in any case, also where the other bit is forgotten.
    hasDataFile: (incompatible & DATA_FILE) !== 0n || (autoclear & RAW_DATA_FILE) !== 0n,
    isDirty: (incompatible & DIRTY) !== 0n,
    isCorrupt: (incompatible & CORRUPT) !== 0n,
    hasBitmaps: (autoclear & BITMAPS) !== 0n,
  }
}

/** The bit is set exactly when the type is not the default one. */
function checkCompression(bytes: Buffer, headerLength: number, isSet: boolean): void {
  const hasField = headerLength > V3_LENGTH && bytes.length > V3_LENGTH
  const type = hasField ? bytes.readUInt8(V3_LENGTH) : ZLIB
  if (type !== (isSet ? ZSTD : ZLIB)) {
    throw new ImageRefused(`compression type ${type} is unknown, or not declared`)
  }
}

/** Of a table. Throws ImageRefused. */
export function checkAligned({ clusterSize }: Qcow2Header, offset: bigint, what: string): void {
  if (offset % BigInt(clusterSize) !== 0n) {
    throw new ImageRefused(`${what} does not begin with a cluster`)
  }
}
