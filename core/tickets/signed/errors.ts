/** Why a token is no good: for the log only, the client is told what an unknown id is told. */
export class TokenRefusedError extends Error {
  override readonly name = 'TokenRefusedError'
}
