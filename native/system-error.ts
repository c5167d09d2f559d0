/** A failed system call, shaped like Node's own errors: `code` 'ENOSPC', `errno` -28, `syscall`. */
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
