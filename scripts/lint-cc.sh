#!/bin/sh
# Checks the addon's C++: layout by clang-format, mistakes by clang-tidy. --fix corrects the layout.
set -eu
cd "$(dirname "$0")/.."
for tool in clang-format clang-tidy; do
  if ! command -v "$tool" >/dev/null; then
    echo "imageio: $tool is missing; apt-get install clang-format clang-tidy" >&2
    exit 1
  fi
done
case $(uname -m) in
x86_64) arch=x64 ;;
aarch64) arch=arm64 ;;
*) echo "imageio: no pinned Node for $(uname -m); x86_64 and aarch64 are supported" >&2; exit 1 ;;
esac

sources=$(ls native/src/*.cc native/src/transport/*.cc native/src/nbd/*.cc native/fuzz/*.cc)
headers=$(ls native/src/*.h native/src/transport/*.h native/src/nbd/*.h)
case ${1:-} in
--fix) clang-format -i $sources $headers ;;
'') clang-format --dry-run -Werror $sources $headers ;;
*) echo "usage: lint-cc.sh [--fix]" >&2; exit 2 ;;
esac

# The same language and defines as in native/binding.gyp. What clang-tidy counts as suppressed it
# found in headers of others.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! printf '%s\n' $sources | xargs -P "$(nproc)" -I{} clang-tidy --quiet {} -- \
  -std=c++20 -Wall -Wextra -Wno-unused-parameter -D_GNU_SOURCE -DNAPI_VERSION=9 \
  -DNAPI_CPP_EXCEPTIONS -DNODE_ADDON_API_CPP_EXCEPTIONS_ALL \
  -DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS -DBUILDING_NODE_EXTENSION \
  -isystem "node_modules/node-linux-$arch/include/node" -isystem node_modules/node-addon-api \
  >"$log" 2>&1; then
  grep -v 'warnings generated\.$' "$log"
  exit 1
fi
