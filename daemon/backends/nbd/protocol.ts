/** Numbers of the NBD protocol, as the project's public document names them. */
export const NBD_MAGIC = 0x4e42444d41474943n
export const OPTION_MAGIC = 0x49484156454f5054n
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n
export const REQUEST_MAGIC = 0x25609513
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71
export const SIMPLE_REPLY_MAGIC = 0x67446698
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c

/** Handshake flag and its answer. */
export const FIXED_NEWSTYLE = 1 << 0

export const Option = {
  ABORT: 2,
  STARTTLS: 5,
  GO: 7,
  STRUCTURED_REPLY: 8,
  LIST_META_CONTEXT: 9,
  SET_META_CONTEXT: 10,
  EXTENDED_HEADERS: 11,
} as const

export const OptionReply = {
  ACK: 1,
  INFO: 3,
  META_CONTEXT: 4,
  ERR_UNSUP: 0x80000001,
  ERR_POLICY: 0x80000002,
  ERR_TLS_REQD: 0x80000005,
  ERR_UNKNOWN: 0x80000006,
  ERR_SHUTDOWN: 0x80000007,
  ERR_BLOCK_SIZE_REQD: 0x80000008,
  ERR_EXT_HEADER_REQD: 0x8000000a,
} as const

export const Info = { EXPORT: 0, BLOCK_SIZE: 3 } as const

/** Transmission flags. */
export const HAS_FLAGS = 1 << 0
export const READ_ONLY = 1 << 1
export const SEND_FLUSH = 1 << 2
export const SEND_FUA = 1 << 3
export const SEND_WRITE_ZEROES = 1 << 6
export const SEND_FAST_ZERO = 1 << 11

export const Command = {
  READ: 0,
  WRITE: 1,
  DISC: 2,
  FLUSH: 3,
  WRITE_ZEROES: 6,
  BLOCK_STATUS: 7,
} as const

/** Command flag of changes: answered when they are on stable storage. */
export const FUA = 1 << 0
/** Command flag of WRITE_ZEROES: stay allocated. */
export const NO_HOLE = 1 << 1
/** Command flag of WRITE_ZEROES: refused at once when it takes as long as a write. */
export const FAST_ZERO = 1 << 4
/** Command flag with extended headers: the length is that of a payload. */
export const PAYLOAD_LENGTH = 1 << 5

export const CHUNK_DONE = 1 << 0

export const Chunk = {
  NONE: 0,
  OFFSET_DATA: 1,
  OFFSET_HOLE: 2,
  BLOCK_STATUS: 5,
  BLOCK_STATUS_EXT: 6,
  ERROR: 0x8001,
  ERROR_OFFSET: 0x8002,
} as const

/** All types with this bit are errors, also those not known yet. */
export const CHUNK_IS_ERROR = 1 << 15

/** Names of exports and contexts, and texts of errors, in bytes. */
export const MAX_NAME = 4096

/** Sizes when the server tells none. */
export const DEFAULT_BLOCK_SIZES = { minimum: 1, maximum: 32 * 1024 * 1024 } as const
