/**
 * The door to the addon: one typed function per system call. Offsets and sizes are bytes. Every
 * call that may block runs on libuv's pool and rejects with a SystemError shaped like Node's own
 * (`code: 'ENOSPC'`, `errno`, `syscall`). Nothing here retries, falls back or decides.
 */
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
export const addon: unknown = require('#addon')
