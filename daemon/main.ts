/** imageio-daemon. */
import { run } from '../core/process/main.js'
import { preflight } from '../core/process/preflight.js'
import { loadDaemonConfig, schema } from './config.js'
import { startDaemon } from './daemon.js'

run({
  name: 'imageio-daemon',
  purpose: 'Serves virtual machine disks to clients that hold a ticket.',
  takesTicket: true,
  preflight,
  schema,
  load: loadDaemonConfig,
  start: startDaemon,
})
