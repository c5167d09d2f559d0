/** --show-options: the schema, for people. */
import type { Schema } from './schema.js'

/** As in a file, with defaults; what is allowed and the reason are comments. */
export function showOptions(schema: Schema): string {
  return Object.entries(schema)
    .map(([section, options]) => {
      const lines = Object.entries(options).map(
        ([key, option]) =>
          `# ${option.description}\n# Must be ${option.allowed}.\n${key} = ${written(option.default)}\n`,
      )
      return `[${section}]\n\n${lines.join('\n')}`
    })
    .join('\n')
}

/** An abstract address begins with NUL, and has another way to be written. */
function written(value: unknown): string {
  return String(value).replace(/^\0/, '@')
}
