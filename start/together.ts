/** Work that is done at once, because each part waits for another process. */

/**
 * Resolves when all have, rejects with the first failure; then, or when the signal is aborted, the
 * others are told to end, and have ended before it rejects.
 */
export async function together<T extends readonly unknown[]>(
  signal: AbortSignal,
  works: { readonly [K in keyof T]: (signal: AbortSignal) => Promise<T[K]> },
): Promise<T> {
  const isOver = new AbortController()
  const either = AbortSignal.any([signal, isOver.signal])
  const failures: unknown[] = []
  const results = await Promise.all(
    works.map((work) =>
      work(either).catch((error: unknown) => {
        failures.push(error)
        isOver.abort()
      }),
    ),
  )
  if (failures.length > 0) throw failures[0]
  return results as unknown as T
}
