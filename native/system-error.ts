/**
 * A failed system call, shaped like Node's own errors: `code` 'ENOSPC', `errno` -28, `syscall`. The
 * code is Linux's name, so EOPNOTSUPP where Node says ENOTSUP, and there is one for EDQUOT and
 * ESTALE, which Node does not know. An ioctl or a seek is named with what was asked of it:
 * 'ioctl(BLKDISCARD)', 'lseek(SEEK_DATA)'.
 */
export class SystemError extends Error {
  readonly code: string
  readonly errno: number
  readonly syscall: string

  constructor(code: string, errno: number, syscall: string, reason: string) {
    super(`${code}: ${reason}, ${syscall}`)
    this.code = code
    this.errno = errno
    this.syscall = syscall
  }

  override get name(): string {
    return 'SystemError'
  }
}
