/** A server did not start or end; the reason is for administrators, with paths. */
export class NbdServerError extends Error {
  override readonly name = 'NbdServerError'
}
