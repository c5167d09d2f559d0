/** imageio-proxy. */
import { run } from '../core/process/main.js'
import { preflight } from '../core/process/preflight.js'
import { loadProxyConfig, schema } from './config.js'
import { startProxy } from './proxy.js'
import { trustProblems } from './trust.js'

run({
  name: 'imageio-proxy',
  purpose: 'Passes requests on virtual machine disks on to the daemons that have them.',
  confDirHint: '\n                      (its unit gives /etc/ovirt-imageio-proxy)',
  takesTicket: true,
  preflight,
  schema,
  load: loadProxyConfig,
  problems: trustProblems,
  start: startProxy,
})
