/** The HTTP client. */
import type { Command } from './command.js'
import type { Transfer } from './system.js'

/** `where` are the arguments that reach the server. */
export function curl(where: readonly string[], ...options: readonly string[]): Command {
  const usual = ['--silent', '--show-error', '--fail', '--http1.1']
  return { program: 'curl', args: [...usual, ...options, ...where] }
}

export function curlTransfer(
  { direction, local = '/dev/null' }: Transfer,
  where: readonly string[],
): Command {
  return curl(where, direction === 'GET' ? '-o' : '-T', local)
}
