import t from 'tap'
import { openError, storageError } from '../../../daemon/backends/errors.js'
import { SystemError } from '../../../native/index.js'

const failed = (code: string) => new SystemError(code, -5, 'pwrite', 'some reason')

t.test('each errno becomes a status that helps', (t) => {
  const expected = {
    ENOSPC: ['ERR_STORAGE_FULL', 507],
    EDQUOT: ['ERR_STORAGE_FULL', 507],
    EFBIG: ['ERR_STORAGE_FULL', 507],
    EROFS: ['ERR_STORAGE_READ_ONLY', 500],
    EPERM: ['ERR_STORAGE_READ_ONLY', 500],
    ENODEV: ['ERR_STORAGE_GONE', 502],
    ENXIO: ['ERR_STORAGE_GONE', 502],
    ESTALE: ['ERR_STORAGE_GONE', 502],
    ENOTCONN: ['ERR_STORAGE_GONE', 502],
    ETIMEDOUT: ['ERR_STORAGE_TIMEOUT', 504],
    EIO: ['ERR_STORAGE', 500],
    EINVAL: ['ERR_STORAGE', 500],
  }
  for (const [code, [error, statusCode]] of Object.entries(expected)) {
    const cause = failed(code)
    t.match(storageError(cause), { code: error, statusCode, cause })
  }
  t.end()
})

t.test('the message is one line without errno or system call', (t) => {
  for (const code of ['EIO', 'ENOSPC', 'EROFS', 'ENXIO', 'ETIMEDOUT', 'ENOENT', 'EACCES']) {
    for (const { message } of [storageError(failed(code)), openError(failed(code))]) {
      t.notMatch(message, /E[A-Z]{3,}|pwrite|\d|\n|\//)
      t.ok(message.length > 10)
    }
  }
  t.end()
})

t.test('while opening the reason is named', (t) => {
  t.match(openError(failed('ENOENT')), {
    code: 'ERR_BACKEND_OPEN',
    statusCode: 500,
    message: 'cannot open the image: it does not exist',
  })
  t.match(openError(failed('EACCES')), { message: /permission denied/ })
  t.match(openError(failed('EPERM')), { message: /permission denied/ })
  t.match(openError(failed('ENXIO')), { code: 'ERR_STORAGE_GONE' })
  t.match(openError(failed('EIO')), { code: 'ERR_BACKEND_OPEN' })
  t.end()
})

t.test('what is no system error passes as it is', (t) => {
  const error = new Error('abort')
  t.equal(storageError(error), error)
  t.match(storageError('text'), { code: 'ERR_STORAGE', cause: 'text' })
  t.end()
})
