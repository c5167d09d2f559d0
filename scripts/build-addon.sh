#!/bin/sh
# Builds the addon against the headers of the pinned node, never against downloaded ones.
# "rebuild" (the default) starts from nothing; "build" compiles what changed since the last time.
set -eu
cd "$(dirname "$0")/.."
case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) echo "imageio: no pinned Node for $(uname -m); x86_64 and aarch64 are supported" >&2; exit 1 ;;
esac
PATH="$PWD/node_modules/.bin:$PATH"
nodedir="$PWD/node_modules/node-linux-$arch"
if [ ! -d "$nodedir/include" ]; then
  echo "imageio: $nodedir is missing; run npm ci without --omit=optional" >&2
  exit 1
fi

# Two builds at once, say of npm test in two terminals, would write the same files.
exec 9<native
flock 9

# What the object files depend on and make does not see.
stamp=native/build/built-for
wanted="$PWD $(node --version) $(node -p "require('node-addon-api').version") $(
  cat native/binding.gyp scripts/build-addon.sh | cksum)"

if [ "${1:-rebuild}" = build ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  # node-gyp takes a second to find out that there is nothing to do; make takes none.
  exec make --silent -C native/build BUILDTYPE=Release -j "$(nproc)"
fi
node-gyp rebuild -C native --nodedir="$nodedir" --loglevel=error --jobs=max
echo "$wanted" > "$stamp"
