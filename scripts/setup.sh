#!/bin/sh
# Makes a checkout ready: setup.sh start | test. Says what it does, and nothing when all is there.
# Runs before `npm start` and `npm test`; never needs more than a shell.
set -eu
cd "$(dirname "$0")/.."
goal=${1:-start}
case $goal in
start | test) ;;
*) echo "usage: setup.sh start|test" >&2; exit 2 ;;
esac

say() { echo "imageio: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Inside an npm script the pinned node comes first in PATH; `npm ci` deletes it while it runs.
PATH=$(printf %s "$PATH" | tr : '\n' | grep -v '/node_modules/\.bin$' | paste -s -d :)
# Tools of administrators, which a plain user's PATH lacks on Debian.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# ---- Debian packages ------------------------------------------------------------------------------

# need COMMAND PACKAGE: without it nothing works. want COMMAND PACKAGE: tests of it are skipped.
needed=''
wanted=''
need() { have "$1" || needed="$needed $2"; }
want() { have "$1" || wanted="$wanted $2"; }

need node nodejs
need npm npm
have c++ || need g++ g++
need make make
need python3 python3
need openssl openssl
want curl curl
if [ "$goal" = test ]; then
    want jq jq
    want qemu-img qemu-utils
    want qemu-system-x86_64 qemu-system-x86
    want mke2fs e2fsprogs
    want mkfs.xfs xfsprogs
    want sfdisk fdisk
    want xorriso xorriso
    want nbdkit nbdkit
    want nbdcopy libnbd-bin
    want nginx nginx-light
    want haproxy haproxy
    want h2load nghttp2-client
    want ip iproute2
    want aria2c aria2
    want wget wget
    want chromium chromium
    want strace strace
    want xz xz-utils
    want pg_ctlcluster postgresql
    # Its upload scripts are taken out of it.
    want virt-v2v virt-v2v
    # Libraries and plugins, which no command shows: only where apt knows what is installed.
    # clang's fuzzer and sanitizers, of its version or Debian 12's: only recommended by clang itself.
    clang=$(clang++ --version 2>/dev/null) || clang=''
    clang=${clang#*clang version }
    clang=${clang%%.*}
    for package in gir1.2-govirt-1.0 python3-gi nbdkit-plugin-python "libclang-rt-${clang:-14}-dev"; do
        if have dpkg-query && ! dpkg-query -W -f '${Status}' $package 2>/dev/null |
            grep -q 'ok installed'; then
            wanted="$wanted $package"
        fi
    done
    want clang-format clang-format
    want clang-tidy clang-tidy
    want clang++ clang
    # An installer image as real input; each Debian release has its own.
    release=$(. /etc/os-release 2>/dev/null && echo "${ID:-} ${VERSION_ID:-}") || release=''
    case $release in
    'debian '[0-9]*)
        installer=${release#debian }
        [ -d "/usr/lib/debian-installer/images/$installer" ] ||
            wanted="$wanted debian-installer-$installer-netboot-amd64"
        ;;
    esac
fi

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

may_install() {
    have apt-get && { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }
}

log=$(mktemp)
optional='' # the process that installs what is wanted
trap 'rm -f "$log"; [ -z "$optional" ] || wait "$optional"' EXIT

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=120 -o Acquire::Retries=1 -o Acquire::http::Timeout=20 \
        -o Acquire::https::Timeout=20 "$@" >"$log" 2>&1
}

updated=no
update() {
    [ $updated = no ] || return 0
    updated=yes
    say 'fetching the package lists'
    apt update || say 'the package lists cannot be fetched; is the network reachable?'
}

# Lists are fetched only if there are none or an installation failed: they may well be good enough.
install() {
    ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || update
    apt install --no-install-recommends "$@" && return
    [ $updated = no ] || return 1
    update
    apt install --no-install-recommends "$@"
}

if [ -n "$needed" ]; then
    # shellcheck disable=SC2086 # a list of words
    if may_install; then
        say "installing$needed"
        install $needed || {
            tail -n 5 "$log" >&2
            say "apt cannot install$needed. When the network is back: npm $goal"
            exit 1
        }
    else
        say "missing:$needed. Install with: sudo apt-get install$needed"
        exit 1
    fi
fi

# What could not be had is asked for again after a day, not at each run.
refused=.dev/not-installable
is_refused() {
    [ -n "$(find "$refused" -mtime -1 2>/dev/null)" ] && [ "$wanted" = "$(cat "$refused")" ]
}

install_wanted() {
    if may_install && ! is_refused; then
        say "installing$wanted"
        # shellcheck disable=SC2086 # a list of words
        if install $wanted; then
            return
        fi
        # One unknown name fails all of them.
        missing=''
        for package in $wanted; do
            apt install --no-install-recommends "$package" || missing="$missing $package"
        done
        wanted=$missing
        mkdir -p .dev && printf '%s\n' "$wanted" >"$refused"
    fi
    [ -z "$wanted" ] ||
        say "optional tools are missing:$wanted. Install with: sudo apt-get install$wanted"
}

# Beside what follows, which needs none of them: the one waits for the network, the other computes.
if [ -n "$wanted" ]; then
    (
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        install_wanted
    ) &
    optional=$!
fi

major=$(node -p 'process.versions.node.split(".")[0]')
if [ "$major" -lt 18 ]; then
    say "Node $(node --version) is too old to install packages; 18 or newer is needed"
    exit 1
fi

# ---- packages, addon, JavaScript: each only when its sources changed -------------------------------

hash_of() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1; }
is_built() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }

lock=$(hash_of package-lock.json)
lock_stamp=node_modules/.imageio-lock
addon_stamp=native/build/.imageio-sources
addon() { hash_of native/binding.gyp native/src package-lock.json; }

if ! is_built $lock_stamp "$lock"; then
    # Someone may have run npm ci by hand: npm then has left its own newer copy of the lock file.
    if [ -z "$(find node_modules/.package-lock.json -newer package-lock.json 2>/dev/null)" ]; then
        say 'installing npm packages and building the addon (npm ci), half a minute'
        npm ci --no-progress --loglevel=error >"$log" 2>&1 || {
            tail -n 30 "$log" >&2
            say 'npm ci failed'
            exit 1
        }
        [ -d native/build ] && addon >$addon_stamp
    fi
    echo "$lock" >$lock_stamp
fi

node=node_modules/.bin/node
if [ ! -x $node ]; then
    say "no pinned Node for $(uname -m); x86_64 and aarch64 are supported"
    exit 1
fi

sources=$(addon)
if [ ! -f native/build/Release/imageio.node ] || ! is_built $addon_stamp "$sources"; then
    say 'building the addon'
    sh scripts/build-addon.sh >"$log" 2>&1 || { cat "$log" >&2; say 'the addon cannot be built'; exit 1; }
    echo "$sources" >$addon_stamp
fi

# tap is made of the plugins that .taprc leaves; it would notice that itself, but not for the first run.
tap_stamp=node_modules/@tapjs/test/test-built/.imageio-plugins
plugins=$(hash_of .taprc package-lock.json)
if [ "$goal" = test ] && ! is_built $tap_stamp "$plugins"; then
    PATH=$PWD/node_modules/.bin:$PATH tap build >"$log" 2>&1 || { cat "$log" >&2; say 'tap cannot be built'; exit 1; }
    echo "$plugins" >$tap_stamp
fi

rooms=''
for room in core ctl daemon native proxy transfers start test bench; do
    [ -d $room ] && rooms="$rooms $room"
done
# shellcheck disable=SC2086 # a list of words
sources=$({ find $rooms -name '*.ts' -not -path 'native/build/*' -print0 | sort -z | xargs -0 sha256sum
    cat tsconfig.json package-lock.json; } | sha256sum | cut -d ' ' -f 1)
if ! is_built dist/.imageio-sources "$sources"; then
    say 'compiling TypeScript'
    # What was compiled from a file that is gone would still be run as a test.
    if [ -d dist ]; then
        find dist -name '*.js' | while read -r file; do
            source=${file#dist/}
            [ -f "${source%.js}.ts" ] || rm -f "$file" "$file.map"
        done
    fi
    $node node_modules/typescript/bin/tsc
    echo "$sources" >dist/.imageio-sources
fi
