/** Why images cannot be served; the message is for the user, one line or with a log attached. */
export class StartError extends Error {
  override readonly name = 'StartError'
}
