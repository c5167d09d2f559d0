/**
 * Passwords as they are kept: scrypt with its parameters beside the hash, so that they can be raised
 * later without making old entries useless.
 */
import { randomBytes, scrypt, timingSafeEqual, type ScryptOptions } from 'node:crypto'
import { MiB } from '../core/units.js'

interface Cost {
  readonly N: number
  readonly r: number
  readonly p: number
}

/** 32 MiB and some 0.1 s for each try: what OWASP names for logins (2^15, 8, 3), one lane of it at a time. */
const COST: Cost = { N: 2 ** 15, r: 8, p: 3 }
/** A line of the file is trusted, a misprint in it is not to take the machine's memory. */
const MAX_MEMORY = 256 * MiB
const SALT_BYTES = 16
const HASH_BYTES = 32

const SYNTAX = /^scrypt\$(\d{1,8})\$(\d{1,2})\$(\d{1,2})\$([\w-]{16,})\$([\w-]{43})$/

export async function hashPassword(password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const hash = await derive(password, salt, COST)
  const { N, r, p } = COST
  return ['scrypt', N, r, p, salt.toString('base64url'), hash.toString('base64url')].join('$')
}

export function isPasswordHash(text: string): boolean {
  return SYNTAX.test(text)
}

export async function matchesHash(password: string, entry: string): Promise<boolean> {
  const [, N, r, p, salt = '', hash = ''] = SYNTAX.exec(entry) ?? []
  const cost = { N: Number(N), r: Number(r), p: Number(p) }
  const expected = Buffer.from(hash, 'base64url')
  const derived = await derive(password, Buffer.from(salt, 'base64url'), cost)
  return expected.length === derived.length && timingSafeEqual(derived, expected)
}

/** The same password typed in two ways of Unicode is the same password. */
function derive(password: string, salt: Buffer, cost: Cost): Promise<Buffer> {
  const options: ScryptOptions = { ...cost, maxmem: MAX_MEMORY }
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFKC'), salt, HASH_BYTES, options, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
}
