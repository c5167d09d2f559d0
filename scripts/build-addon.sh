#!/bin/sh
# Builds the addon against the headers of the pinned node, never against downloaded ones.
set -eu
cd "$(dirname "$0")/.."
case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) echo "imageio: no pinned Node for $(uname -m); x86_64 and aarch64 are supported" >&2; exit 1 ;;
esac
PATH="$PWD/node_modules/.bin:$PATH"
exec node-gyp "${1:-rebuild}" -C native --nodedir="$PWD/node_modules/node-linux-$arch" --loglevel=error
