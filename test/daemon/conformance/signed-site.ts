/** A site with signed tickets: keys, images, and who signs for them. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Daemon, Sections } from '../../support/daemon.js'
import {
  AUDIENCE,
  claims,
  ed25519,
  pemOf,
  token,
  type ClaimFields,
  type Pair,
} from '../../core/tickets/signed/tokens.js'

export interface Site {
  readonly dir: string
  readonly pair: Pair
  readonly keys: string
  readonly images: string
  readonly config: Sections
  /** A file of random bytes, and the claims for it. */
  image(size?: number): { file: string; bytes: Buffer; fields: ClaimFields }
  sign(fields: ClaimFields, header?: object): string
}

/** What several servers share: keys, and the directory of images. */
export function makeSite(t: Test, settings: Sections[string] = {}): Site {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-signed-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  const [keys, images] = [join(dir, 'keys'), join(dir, 'images')]
  mkdirSync(keys)
  mkdirSync(images)
  const pair = ed25519()
  writeFileSync(join(keys, 'engine.pem'), pemOf(pair))
  let count = 0
  return {
    ...{ dir, pair, keys, images },
    config: {
      signed_tickets: {
        ...{ enable: true, keys, audience: AUDIENCE },
        ...{ revocations_file: join(dir, 'revocations.json'), ...settings },
      },
      backend_file: { allowed_paths: images },
    },
    image: (size = 8192) => {
      const file = join(images, `disk-${++count}`)
      const bytes = randomBytes(size)
      writeFileSync(file, bytes)
      return {
        file,
        bytes,
        fields: { url: `file://${file}`, size, transfer_id: `backup-${count}` },
      }
    },
    sign: (fields, header = {}) =>
      token(pair, { alg: 'EdDSA', kid: 'engine', ...header }, claims(fields)),
  }
}

export const bearer = (text: string) => ({ headers: { authorization: `Bearer ${text}` } })

/** Why the tokens that came until now were refused. */
export function reasons(daemon: Daemon): string[] {
  const refusals = daemon
    .logText()
    .split('\n')
    .filter((line) => line.includes('signed ticket refused'))
  return refusals.map((line) => (JSON.parse(line) as { reason: string }).reason)
}
