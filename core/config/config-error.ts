/** A configuration that cannot be used. The message names the file, the section and the key. */
export class ConfigError extends Error {
  readonly code = 'ERR_CONFIG'
  override get name(): string {
    return 'ConfigError'
  }
}
