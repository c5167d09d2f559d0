/**
 * What can go wrong, one class per reason. `statusCode` is what a client gets, `message` is the one
 * line it reads: it names the reason, never a path, an errno or a complete ticket id. docs/errors.md
 * lists every code.
 */
export abstract class ServiceError extends Error {
  abstract readonly code: string
  abstract readonly statusCode: number
  override get name(): string {
    return this.constructor.name
  }
}
