/**
 * How many connections there may be, in all and from one address (of IPv6, one /64 network): memory and
 * descriptors are bounded.
 */
import { networkOf } from './network.js'

export interface AdmissionLimits {
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
}

export class Admission {
  readonly #limits: AdmissionLimits
  readonly #perAddress = new Map<string, number>()
  #total = 0

  constructor(limits: AdmissionLimits) {
    this.#limits = limits
  }

  /** A function that gives the place back, or undefined when there is none. */
  enter(address: string): (() => void) | undefined {
    const network = networkOf(address)
    const count = this.#perAddress.get(network) ?? 0
    const { maxConnections, maxConnectionsPerAddress } = this.#limits
    if (this.#total >= maxConnections || count >= maxConnectionsPerAddress) return undefined
    this.#total++
    this.#perAddress.set(network, count + 1)
    return () => this.#leave(network)
  }

  #leave(network: string): void {
    this.#total--
    const count = (this.#perAddress.get(network) ?? 0) - 1
    if (count > 0) this.#perAddress.set(network, count)
    else this.#perAddress.delete(network)
  }
}
