/** Variables of the environment, for this process and those it starts. */
import type { Test } from 'tap'

/** Until the test ends. */
export function setEnvironment(t: Test, name: string, value: string): void {
  const before = process.env[name]
  process.env[name] = value
  t.teardown(() => {
    if (before === undefined) Reflect.deleteProperty(process.env, name)
    else process.env[name] = before
  })
}
