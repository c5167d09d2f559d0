/** Debian's Python, whatever Python comes first in PATH: its modules are those of Debian's packages. */
import { execFileSync } from 'node:child_process'

export const PYTHON = '/usr/bin/python3'

/** For `skip`. */
export function withoutGovirt(): string | false {
  try {
    const look = "import gi; gi.require_version('GoVirt', '1.0'); from gi.repository import GoVirt"
    execFileSync(PYTHON, ['-c', look], { stdio: 'ignore' })
    return false
  } catch {
    return 'python3-gi and gir1.2-govirt-1.0 are not installed'
  }
}
