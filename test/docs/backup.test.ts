/** The lines of docs/backup.md, from top to bottom, with a guest that writes between them. */
import t from 'tap'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startDaemon } from '../support/daemon.js'
import { run, without } from '../support/tools.js'

const PAGE = 'docs/backup.md'
const TOOLS = ['qemu-system-x86_64', 'qemu-nbd', 'qemu-img', 'qemu-io', 'curl', 'jq', 'python3']
const skip = without('bash', ...TOOLS)

/** What the world does after a block: the n-th of a section. */
const WORLD: Readonly<Record<string, string>> = {
  'Full backup 1': `
    qemu-img compare -U "$disk" "$store/full.raw"
    [ "$(stat -c %b "$store/full.raw")" -lt 16384 ]`,
  'Verification 1': `
    cp --sparse=always "$store/full.raw" "$store/bad.raw"
    printf x | dd of="$store/bad.raw" bs=1 seek=5000000 conv=notrunc status=none
    refused verify "$url" "$store/bad.raw" 2> "$store/error"
    grep -qx "$store/bad.raw: NOT identical" "$store/error"
    refused verify "$url-nobody" "$store/full.raw" 2> "$store/error"
    grep -q "there is no such ticket" "$store/error"
    grep -qx "$store/full.raw: NOT verified" "$store/error"
    refused verify "$url" "$store/missing" 2> "$store/error"
    grep -qx "$store/missing: NOT verified" "$store/error"`,
  'Verification 2': `
    refused differences "$url" "$store/bad.raw" > "$store/differences"
    grep -qx 2c2 "$store/differences"
    refused differences "$url-nobody" "$store/full.raw" > "$store/differences" 2> "$store/error"
    grep -q "there is no such ticket" "$store/error"
    grep -q "NOT compared" "$store/error"
    cut_short() (
        get() { ask "\${@:2}" | head -n 3 > "$1"; }
        ask() { curl --silent --cacert "$ca" "$@"; }
        differences "$@"
    )
    refused cut_short "$url" "$store/full.raw" >> "$store/differences" 2> "$store/error"
    [ "$(wc -l < "$store/full.raw.manifest")" = 3 ]
    grep -q "NOT compared" "$store/error"
    [ ! -s "$store/differences" ]`,
  'Verification 3': `cp "$store/full.ranges" "$store/kept.ranges"`,
  'Verification 4': `
    qemu-io -f qcow2 -c 'write -P 9 100k 1' -c 'write -z 1M 128k' -c 'write -P 3 30M 1M' "$disk"`,
  'Incremental backup 1': `
    [ "$(wc -l < "$store/inc1.ranges")" = 2 ]
    for left in extents ranges raw; do cp "$store/kept.ranges" "$store/inc0.$left"; done
    nothing_left() { [ "$(find "$store" -name 'inc0*')" = "" ]; }
    refused list "$url-nobody" dirty "$store/inc0" 2> "$store/error"
    grep -q "there is no such ticket" "$store/error"
    nothing_left
    refused fetch "$url" "$store/inc0" 2> "$store/error"
    grep -qx "there is no list $store/inc0.extents" "$store/error"
    nothing_left
    without_bitmap=$(ticket "file://$store/full.raw" '["read"]')
    refused list "$without_bitmap" dirty "$store/inc0" 2> "$store/error"
    grep -q dirty "$store/error"
    nothing_left
    imageioctl delete "\${without_bitmap##*/}"`,
  'Incremental backup 2': `
    imageioctl delete "\${url##*/}"
    end_serve
    qemu-io -f qcow2 -c 'write -P 7 50M 64k' "$disk"
    again check1 check2
    serve --read-only -B check1 -f qcow2 "$disk"
    url=$(ticket "nbd:unix:$run/nbd" '["read"]')
    list "$url" dirty "$store/inc1"
    fetch "$url" "$store/inc1"
    [ "$(wc -l < "$store/inc1.ranges")" = 3 ]`,
  'Putting backups together 1': `qemu-img compare -U "$disk" "$store/disk.raw"`,
  'Putting backups together 2': `
    boot() { qemu-system-x86_64 -S -machine q35,accel=tcg -m 64 -nodefaults -display none -daemonize \
        -pidfile "$run/qemu.pid" -qmp "unix:$run/qmp,server=on,wait=off" \
        -blockdev "driver=file,node-name=file,filename=$disk" \
        -blockdev driver=qcow2,node-name=disk,file=file -device virtio-blk-pci,drive=disk,id=disk0
    }
    boot
    guest() {
        examples/qmp.py "$run/qmp" <<END
{"execute": "human-monitor-command",
 "arguments": {"command-line": "qemu-io -d disk0/virtio-backend \\"$1\\""}}
END
    }
    guest 'write -P 21 5M 100k'
    guest flush
    cp "$disk" "$store/moment.qcow2"`,
  'A running machine 1': `
    qemu-img compare "$store/moment.qcow2" "$store/vm-full.raw"
    guest 'write -P 22 5M 64k'
    verify "$url" "$store/vm-full.raw"
    refused fetch "$url-nobody" "$store/vm-full" 2> "$store/error"
    grep -q 403 "$store/error"
    grep -q "there is no such ticket" "$store/error"
    [ ! -e "$store/vm-full.raw" ]
    list "$url" zero "$store/vm-full"
    fetch "$url" "$store/vm-full"
    first=$url
    refused begin_backup "" vm1 2> "$store/error"
    grep -qx "vm1 is there, .*" "$store/error"
    refused begin_backup vm1 vm2 2> "$store/error"
    grep -q 'Failed to get "write" lock' "$store/error"
    [ "$url" = "$first" ]
    [ "$(bitmaps | grep ^vm)" = "vm1 true" ]`,
  'A running machine 2': `
    [ -z "$url" ]
    end_backup > "$store/said"
    [ "$(grep -c 'nothing to do' "$store/said")" = 4 ]
    # Another day, with each step as far as it gets.
    refused begin_backup "" vm1 2> "$store/error"
    [ ! -e "$run/scratch.qcow2" ]
    transaction_fails() (
        switch() { echo '{"type": "block-dirty-bitmap-add", "data": {"node": "disk", "name": "vm1"}},'; }
        begin_backup "" vm1
    )
    refused transaction_fails 2> "$store/error"
    grep -q 'Bitmap already exists: vm1' "$store/error"
    refused begin_backup vm1 vm2 2> "$store/error"
    grep -q 'Failed to get "write" lock' "$store/error"
    end_backup > "$store/said"
    [ "$(grep 'nothing to do' "$store/said" | cut -d : -f 1 | xargs)" = "block-export-del block-job-cancel" ]
    no_ticket() ( ticket() { return 1; }; begin_backup vm1 vm2 )
    guest 'write -P 31 10M 64k'
    refused no_ticket
    end_backup > "$store/said"
    [ "$(grep -c done "$store/said")" = 4 ]
    [ "$(bitmaps | grep ^vm | sort | xargs)" = "vm1 false vm2 true" ]
    guest 'write -P 23 40M 1M'
    guest 'write -z 30M 512k'
    guest flush
    cp "$disk" "$store/moment.qcow2"`,
  'A running machine 3': `
    guest 'write -P 24 0 64k'
    qemu-img compare "$store/moment.qcow2" "$store/vm.raw"
    [ "$(wc -l < "$store/vm-inc1.ranges")" = 3 ]
    # Verified or not, it can be made once more, and has what was written since.
    refused verify "$url-nobody" "$store/vm.raw" 2> "$store/error"
    end_backup
    guest 'write -P 32 12M 64k'
    guest flush
    cp "$disk" "$store/moment.qcow2"
    begin_backup vm1 vm2
    list "$url" dirty "$store/vm-inc1"
    fetch "$url" "$store/vm-inc1"
    [ "$(wc -l < "$store/vm-inc1.ranges")" = 5 ]
    cp --sparse=always "$store/vm-full.raw" "$store/vm.raw"
    apply "$store/vm-inc1" "$store/vm.raw"
    verify "$url" "$store/vm.raw"
    qemu-img compare "$store/moment.qcow2" "$store/vm.raw"
    without_vm2() ( bitmaps() { echo vm1 false; }; begin_backup vm1 vm2 )
    refused without_vm2 2> "$store/error"
    grep -q "what has changed since vm1 began is not known" "$store/error"`,
  'A running machine 4': `
    examples/qmp.py "$run/qmp" <<< '{"execute": "quit"}'
    while [ -e "$run/qemu.pid" ]; do sleep 0.1; done
    qemu-img info "$disk" > "$store/info"
    refused grep -w vm1 "$store/info"
    grep -w vm2 "$store/info"`,
  'A running machine 5': `
    boot
    url=$(ticket "nbd:unix:$run/vm:exportname=disk" '["read"]')
    qemu-img create -q -f qcow2 -u -b "$disk" -F qcow2 "$run/scratch.qcow2" "$size"
    examples/qmp.py "$run/qmp" <<END
{"execute": "nbd-server-start", "arguments": {"addr": {"type": "unix", "data": {"path": "$run/vm"}}}}
END
    guest 'write -P 25 0 64k'
    qemu=$(cat "$run/qemu.pid")
    kill -9 "$qemu"
    tail --pid="$qemu" -s 0.1 -f /dev/null
    rm "$run/qemu.pid"
    refused list "$url" zero "$store/dead" 2> "$store/error"
    grep -q 'NBD server refuses connections' "$store/error"
    refused end_backup
    [ -z "$url" ]
    forget_backup
    [ ! -e "$run/scratch.qcow2" ]
    [ ! -e "$run/vm" ]
    qemu-img info "$disk" > "$store/info"
    [ "$(grep -c in-use "$store/info")" = "$(grep -c granularity "$store/info")" ]
    grep -q 'name: check2' "$store/info"
    qemu-img bitmap --remove "$disk" check2
    qemu-img bitmap --remove "$disk" vm2`,
  'Restore 1': `verify "$target" "$store/vm.raw"`,
  'Cleaning up 1': `
    qemu-img compare "$store/restored.qcow2" "$store/vm.raw"
    qemu-img compare "$store/restored.qcow2" "$store/moment.qcow2"
    serve --read-only -f raw "$store/full.raw"
    url=$(ticket "nbd:unix:$run/nbd" '["read"]')
    mv "$store/full.raw" "$store/kept.raw"`,
  'Speed 1': `
    qemu-img compare "$store/full.raw" "$store/kept.raw"
    in_parallel() { pull=pulls fetch "$1" "$store/full"; }
    refused in_parallel "$url-nobody" 2> "$store/error"
    grep -q "there is no such ticket" "$store/error"
    [ ! -e "$store/full.raw" ]
    end_serve
    end_serve
    [ ! -e "$run/nbd.pid" ]`,
}

/** For what must fail: `set -e` does not look at what stands behind an exclamation mark. */
const REFUSED = 'refused() { if "$@"; then echo "not refused: $*" >&2; exit 1; fi; }'

interface Block {
  /** 'Heading n'. */
  readonly name: string
  readonly text: string
}

function blocksOf(page: string): Block[] {
  return page.split(/^## /m).flatMap((section) => {
    const heading = section.slice(0, section.indexOf('\n'))
    const blocks = [...section.matchAll(/^```sh\n(.*?)^```$/gms)]
    return blocks.map(([, text = ''], index) => ({ name: `${heading} ${index + 1}`, text }))
  })
}

t.test('the lines of docs/backup.md do what they say', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const dir = await mkdtemp(join(tmpdir(), 'imageio-docs-'))
  const at = (name: string): string => join(dir, name)
  t.teardown(async () => {
    for (const name of ['nbd.pid', 'qemu.pid']) await endOf(join(at('run'), name))
    await rm(dir, { recursive: true, force: true })
  })
  await mkdir(at('bin'))
  const imageioctl = `#!/bin/sh\nexec env -u NODE_OPTIONS '${process.cwd()}/bin/imageioctl' -c '${daemon.dir}' "$@"\n`
  await writeFile(at('bin/imageioctl'), imageioctl)
  await chmod(at('bin/imageioctl'), 0o755)
  await run('qemu-img', ['create', '-q', '-f', 'qcow2', at('disk.qcow2'), '64M'])
  const first = ['write -P 1 0 3M', 'write -P 2 20M 100k', 'write -P 3 63M 1M']
  await run('qemu-io', ['-f', 'qcow2', ...first.flatMap((one) => ['-c', one]), at('disk.qcow2')])

  const ours: Readonly<Record<string, string>> = {
    host: daemon.url,
    ca: daemon.caFile,
    group: '$(id -gn)',
    disk: at('disk.qcow2'),
    store: at('store'),
    run: at('run'),
  }
  const blocks = blocksOf(await readFile(PAGE, 'utf8'))
  const names = blocks.map(({ name }) => name)
  t.strictSame(
    Object.keys(WORLD).filter((name) => !names.includes(name)),
    [],
    'the page has the blocks this test knows',
  )
  const variables = /^(host|ca|group|disk|store|run)=.*$/gm
  const script = blocks.flatMap(({ name, text }) => [
    `echo '== ${name}'; echo '== ${name}' >&2`,
    text.replace(variables, (_, variable: string) => `${variable}=${ours[variable] ?? ''}`),
    '[ $? = 0 ]', // `set -e` does not look at what fails before the last &&
    WORLD[name] ?? '',
  ])
  await writeFile(
    at('script'),
    ['set -eu', REFUSED, `PATH=${at('bin')}:$PATH`, ...script].join('\n'),
  )
  const said = await run('bash', [at('script')], { timeoutMs: 220_000 })
  for (const name of ['full', 'disk', 'vm-full', 'vm']) {
    t.match(said, `\n${at('store')}/${name}.raw: identical\n`)
  }
  t.match(said, `== ${names.at(-1)}`, 'to the last block')
})

async function endOf(pidFile: string): Promise<void> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''))
  if (pid === 0) return
  try {
    process.kill(pid)
  } catch {
    // It has ended.
  }
}
