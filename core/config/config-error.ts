/** What an error says of a configuration besides its message, for those who look for more. */
export interface ConfigFindings {
  /** One line each. */
  readonly problems: readonly string[]
  /** What is written in vain, one line each. */
  readonly warnings: readonly string[]
  /** Options that are wrong, as `[section] key`. */
  readonly wrong: ReadonlySet<string>
  /** The configuration with defaults in place of what is not allowed. */
  readonly config: object
}

/** A configuration that cannot be used. Each line of the message names the file, the section and the key. */
export class ConfigError extends Error {
  readonly code = 'ERR_CONFIG'
  /** Undefined where nothing could be read. */
  readonly findings: ConfigFindings | undefined

  constructor(message: string, options: ErrorOptions & { findings?: ConfigFindings } = {}) {
    super(message, options)
    this.findings = options.findings
  }

  override get name(): string {
    return 'ConfigError'
  }
}
