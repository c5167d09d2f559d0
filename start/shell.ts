/** Words for a shell. */

/** One word, quoted if it must be. */
export function shellQuote(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word
  return `'${word.replaceAll("'", `'\\''`)}'`
}

/** A line to paste. */
export function shellLine(...words: readonly string[]): string {
  return words.map(shellQuote).join(' ')
}
