/** imageio-transfers. */
import { run } from '../core/process/main.js'
import { loadTransfersConfig } from './config.js'
import { createParts } from './parts.js'
import { preflight } from './preflight.js'
import { startTransfers } from './transfers.js'

run({
  name: 'imageio-transfers',
  purpose:
    'Manages transfers of virtual machine disks: whose turn it is, where, and what came of it.',
  takesTicket: false,
  preflight,
  load: loadTransfersConfig,
  start: async (options) => startTransfers(options, await createParts(options)),
})
