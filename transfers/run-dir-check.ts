/** Whether NBD servers can have their sockets in run_dir. */
import { dirname } from 'node:path'
import {
  faultOfDirectory,
  isMissing,
  reasonOf,
  type Preflight,
} from '../core/process/host-checks.js'
import { serverFiles } from './nbd/server-files.js'

const OPTION = '[transfers] run_dir'
const UNIT_DIR = '/run/ovirt-imageio-transfers'
/** Of a transfer. */
const LONGEST_ID = '0'.repeat(36)

/** It is made when it is needed first, with those above it. */
export async function checkRunDir(path: string): Promise<Preflight> {
  const problem = (text: string): Preflight => ({ problems: [`${OPTION}: ${text}`], warnings: [] })
  try {
    serverFiles(path, LONGEST_ID)
  } catch (error) {
    return problem(reasonOf(error))
  }
  const nearest = await nearestOf(path)
  const fault = await faultOfDirectory(nearest)
  if (fault === undefined) return { problems: [], warnings: [] }
  if (nearest === path) return problem(fault)
  if (path !== UNIT_DIR) return problem(`${path} cannot be made: ${fault}`)
  return { problems: [], warnings: [`${OPTION}: ${path} is made by the systemd unit`] }
}

async function nearestOf(path: string): Promise<string> {
  return path !== dirname(path) && (await isMissing(path)) ? nearestOf(dirname(path)) : path
}
