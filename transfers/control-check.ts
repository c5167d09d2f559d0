/** Whether daemons and proxy answer. One that does not may come later: it keeps nothing from starting. */
import { lstat } from 'node:fs/promises'
import { ControlClient, type ControlAddress } from '../core/control/control-client.js'
import type { Findings } from '../core/process/host-checks.js'
import { hostSections, type TransfersConfig } from './options.js'
import { hostsOf, proxyOf } from './inventory.js'

/** Throws when certificates cannot be used. */
export async function checkControl(config: TransfersConfig, findings: Findings): Promise<void> {
  const { control_timeout, proxy_control_socket } = config.transfers
  const sections = new Map(hostSections(config))
  const asked = hostsOf(config).map(({ name, control }) => ({
    control,
    peer: 'the daemon',
    option: hostOption(sections.has(name) ? `host_${name}` : 'transfers', control),
    then: 'the host is down until it does',
  }))
  const proxy = proxyOf(config)
  if (proxy !== undefined) {
    const key = proxy_control_socket === '' ? 'proxy_control_url' : 'proxy_control_socket'
    const then = 'proxy_url does not work until it does'
    asked.push({ control: proxy.control, peer: 'the proxy', option: `[transfers] ${key}`, then })
  }
  await Promise.all(
    asked.map(async ({ control, peer, option, then }) => {
      if (await isOtherFile(control)) {
        const path = 'socketPath' in control ? control.socketPath : ''
        findings.problems.push(`${option}: ${path} exists and is no socket`)
        return
      }
      try {
        const timeoutMs = control_timeout * 1000
        await new ControlClient({ address: control, peer, timeoutMs }).list()
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        findings.warnings.push(`${option}: does not answer, ${then}: ${reason}`)
      }
    }),
  )
}

function hostOption(section: string, control: ControlAddress): string {
  return `[${section}] ${'socketPath' in control ? 'control_socket' : 'control_url'}`
}

async function isOtherFile(control: ControlAddress): Promise<boolean> {
  if (!('socketPath' in control) || control.socketPath.startsWith('\0')) return false
  const found = await lstat(control.socketPath).catch(() => undefined)
  return found !== undefined && !found.isSocket() && !found.isSymbolicLink()
}
