/** Says on standard error how far it is; the result alone goes to standard output. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`)
}
