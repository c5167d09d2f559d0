/** Where the server of a configuration directory is controlled. */
import { loadConfig } from '../core/config/load.js'
import type { ConfigOf } from '../core/config/schema.js'
import { serverSchema } from '../core/config/server.js'
import { ControlClient, ControlError, type ControlAddress } from '../core/control/control-client.js'

/** DELETE is answered after control.remove_timeout at the latest; this is for the way there. */
const REMOVE_MARGIN_MS = 10_000
const TIMEOUT_MS = 60_000

/**
 * All that is read. The directory may be the daemon's or the proxy's: what else is in it, and whether
 * that makes sense, is for the server to say, and must not keep anybody from revoking a ticket.
 */
const schema = { control: serverSchema.control } as const

/** Throws ConfigError, or ControlError when there is no control service to talk to. */
export function clientOf(confDir: string): ControlClient {
  const { control } = loadConfig(schema, { dir: confDir }).config
  const removeTimeoutMs = Math.max(TIMEOUT_MS, control.remove_timeout * 1000 + REMOVE_MARGIN_MS)
  return new ControlClient({ address: addressOf(control), timeoutMs: TIMEOUT_MS, removeTimeoutMs })
}

function addressOf(control: ConfigOf<typeof schema>['control']): ControlAddress {
  if (!control.enable) throw new ControlError('the control service is off: [control] enable')
  if (control.transport !== 'tcp') return { socketPath: control.socket }
  if (control.port > 0) return { host: 'localhost', port: control.port }
  throw new ControlError('the control port is not fixed: [control] port')
}
