import t from 'tap'
import { daemonError, DaemonTimeoutError } from '../../proxy/errors.js'

const failure = (code: string): Error => Object.assign(new Error(code), { code })

t.test('what Node reports becomes a reason', async (t) => {
  for (const [code, isConnected, expected] of [
    ['ECONNREFUSED', false, 'ERR_DAEMON_UNREACHABLE'],
    ['ENOTFOUND', false, 'ERR_DAEMON_UNREACHABLE'],
    ['ECONNRESET', true, 'ERR_DAEMON_GONE'],
    ['EPIPE', true, 'ERR_DAEMON_GONE'],
    ['HPE_INVALID_CONSTANT', true, 'ERR_DAEMON_ANSWER'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', false, 'ERR_DAEMON_UNTRUSTED'],
    ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', false, 'ERR_DAEMON_UNTRUSTED'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', false, 'ERR_DAEMON_UNTRUSTED'],
    ['CERT_HAS_EXPIRED', false, 'ERR_DAEMON_UNTRUSTED'],
    ['ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED', true, 'ERR_DAEMON_DISTRUSTS'],
    ['ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE', true, 'ERR_DAEMON_DISTRUSTS'],
    ['EPROTO … SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca', false, 'ERR_DAEMON_DISTRUSTS'],
    ['EPROTO … ssl/tls alert handshake failure', false, 'ERR_DAEMON_UNREACHABLE'],
  ] as const) {
    t.equal(daemonError(failure(code), isConnected).code, expected, code)
  }
})

t.test('the reason not to trust a certificate is told without advice on Node', async (t) => {
  const advice = '; if the root CA is installed locally, try running Node.js with --use-system-ca'
  const code = 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'
  const error = Object.assign(new Error(`unable to verify the first certificate${advice}`), {
    code,
  })
  const { cause } = daemonError(error, false)
  t.match(cause, { code, message: /^unable to verify the first certificate$/ })
  t.notMatch((cause as Error).stack, 'Node.js')
})

t.test('a reason of our own stays', async (t) => {
  const own = new DaemonTimeoutError('no answer')
  t.equal(daemonError(own, true), own)
})

t.test('texts for clients name no address', async (t) => {
  const { message } = daemonError(failure('connect ECONNREFUSED 10.0.0.5:54322'), false)
  t.notMatch(message, /10\.0\.0\.5/)
})
