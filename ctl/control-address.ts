/** Where the daemon of a configuration directory is controlled. */
import { loadDaemonConfig, type DaemonConfig } from '../daemon/config.js'
import { ControlClient, ControlError, type ControlAddress } from '../core/control/control-client.js'

/** DELETE is answered after control.remove_timeout at the latest; this is for the way there. */
const REMOVE_MARGIN_MS = 10_000
const TIMEOUT_MS = 60_000

/** Throws ConfigError, or ControlError when there is no control service to talk to. */
export function clientOf(confDir: string): ControlClient {
  const { control } = loadDaemonConfig(confDir).config
  const removeTimeoutMs = Math.max(TIMEOUT_MS, control.remove_timeout * 1000 + REMOVE_MARGIN_MS)
  return new ControlClient({ address: addressOf(control), timeoutMs: TIMEOUT_MS, removeTimeoutMs })
}

function addressOf(control: DaemonConfig['control']): ControlAddress {
  if (!control.enable) throw new ControlError('the control service is off: [control] enable')
  if (control.transport !== 'tcp') return { socketPath: control.socket }
  if (control.port > 0) return { host: 'localhost', port: control.port }
  throw new ControlError('the control port is not fixed: [control] port')
}
