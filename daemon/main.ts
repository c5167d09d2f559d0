/** imageio-daemon. */
import { run } from '../core/process/main.js'
import { loadDaemonConfig } from './config.js'
import { startDaemon } from './daemon.js'

run({
  name: 'imageio-daemon',
  purpose: 'Serves virtual machine disks to clients that hold a ticket.',
  load: loadDaemonConfig,
  start: startDaemon,
})
