// The arrows between the rooms, as drawn in CONTRIBUTING.md. A change here is a change of the design.
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'native-stands-alone',
      comment: 'the addon knows node and nothing of ours',
      severity: 'error',
      from: { path: '^native/' },
      to: { path: '^(core|daemon|proxy|transfers|ctl|start|test|bench)/' },
    },
    {
      name: 'core-is-the-bottom',
      severity: 'error',
      from: { path: '^core/' },
      to: { path: '^(daemon|proxy|transfers|ctl|start|test|bench)/' },
    },
    {
      name: 'rates-stand-alone',
      comment: 'whoever moves bytes asks them, and is not known there',
      severity: 'error',
      from: { path: '^core/rate/' },
      to: { pathNot: '^core/rate/' },
    },
    {
      name: 'operations-see-neither-http-nor-tickets',
      severity: 'error',
      from: { path: '^daemon/operations/' },
      to: { path: '^(daemon/images|core/http|core/tickets)/' },
    },
    {
      name: 'backends-see-no-tickets',
      severity: 'error',
      from: { path: '^daemon/backends/' },
      to: { path: '^(daemon/(images|operations)|core/(http|tickets))/' },
    },
    {
      name: 'proxy-and-daemon-are-strangers',
      severity: 'error',
      from: { path: '^proxy/' },
      to: { path: '^(daemon|transfers|ctl|start|test|bench)/' },
    },
    {
      name: 'transfers-only-control',
      comment: 'it moves no data: daemons and proxies are other processes',
      severity: 'error',
      from: { path: '^transfers/' },
      to: { path: '^(daemon|proxy|ctl|start|test|bench)/' },
    },
    {
      name: 'phases-are-data',
      comment: 'the table of phases knows records and faults, nothing that acts',
      severity: 'error',
      from: { path: '^transfers/lifecycle/phases\\.ts$' },
      to: { pathNot: '^transfers/(model|fault)\\.ts$' },
    },
    {
      name: 'daemon-knows-no-proxy',
      severity: 'error',
      from: { path: '^daemon/' },
      to: { path: '^(proxy|transfers)/' },
    },
    {
      name: 'ctl-is-a-client',
      severity: 'error',
      from: { path: '^ctl/' },
      to: { path: '^(daemon|proxy|transfers|start|test|bench)/' },
    },
    {
      name: 'storage-of-transfers-sees-no-api',
      comment:
        'volumes, verification and NBD servers know the records, and neither HTTP nor the database',
      severity: 'error',
      from: { path: '^transfers/(volumes|verify|nbd)/' },
      to: {
        path: '^(core/(http|tickets)/|transfers/(?!(volumes|verify|nbd)/|model\\.ts|fault\\.ts))',
      },
    },
    {
      name: 'product-never-imports-tests',
      severity: 'error',
      from: { path: '^(core|daemon|proxy|transfers|ctl|native|start)/' },
      to: { path: '^(test|bench)/' },
    },
    {
      name: 'only-the-door-loads-the-addon',
      severity: 'error',
      from: { pathNot: '^native/addon\\.ts$' },
      to: { path: 'native/build' },
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^dist/|native/build)' },
  },
}
