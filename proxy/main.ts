/** imageio-proxy. */
import { run } from '../core/process/main.js'
import { loadProxyConfig } from './config.js'
import { startProxy } from './proxy.js'

run({
  name: 'imageio-proxy',
  purpose: 'Passes requests on virtual machine disks on to the daemons that have them.',
  load: loadProxyConfig,
  start: startProxy,
})
