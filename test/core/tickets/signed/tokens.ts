/** Tokens of any kind, also such as no library would make. */
import { createHmac, generateKeyPairSync, randomUUID, sign, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { toJson } from '../../../../core/json.js'

export interface Pair {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  readonly alg: string
}

export function ed25519(alg = 'EdDSA'): Pair {
  return { ...generateKeyPairSync('ed25519'), alg }
}

export function p256(): Pair {
  return { ...generateKeyPairSync('ec', { namedCurve: 'P-256' }), alg: 'ES256' }
}

export function pemOf({ publicKey }: Pair): string {
  return String(publicKey.export({ type: 'spki', format: 'pem' }))
}

export function jwkOf({ publicKey }: Pair): Record<string, unknown> {
  return { ...publicKey.export({ format: 'jwk' }) }
}

export const AUDIENCE = 'host.example'

export type ClaimFields = Record<string, unknown>

export function claims(fields: ClaimFields = {}, now = Date.now() / 1000): ClaimFields {
  const iat = Math.floor(now)
  return {
    aud: AUDIENCE,
    iat,
    exp: iat + 600,
    transfer_id: `transfer-${randomUUID()}`,
    url: 'file:///images/disk',
    ops: ['read'],
    size: 1000,
    ...fields,
  }
}

export function encode(part: unknown): string {
  const text = typeof part === 'string' ? part : toJson(part)
  return Buffer.from(text).toString('base64url')
}

/** Header and payload as they are, JSON or any text; signed as `alg` of the pair says. */
export function token(pair: Pair, header: unknown, payload: unknown): string {
  const text = `${encode(header)}.${encode(payload)}`
  return `${text}.${signatureOf(pair, text)}`
}

export function signatureOf({ privateKey, alg }: Pair, text: string): string {
  const bytes = Buffer.from(text)
  const signature =
    alg === 'ES256'
      ? sign('sha256', bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' })
      : sign(null, bytes, privateKey)
  return signature.toString('base64url')
}

/** What the attack needs that takes a public key for a secret. */
export function hmacToken(secret: string | Buffer, header: unknown, payload: unknown): string {
  const text = `${encode(header)}.${encode(payload)}`
  return `${text}.${createHmac('sha256', secret).update(text).digest('base64url')}`
}

/** A directory of public keys by file name, removed with the test. */
export function keyDirectory(t: Test, files: Readonly<Record<string, string>> = {}): string {
  const dir = mkdtempSync(join(tmpdir(), 'imageio-keys-'))
  t.teardown(() => rmSync(dir, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text)
  return dir
}
