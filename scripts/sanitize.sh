#!/bin/sh
# Runs the addon's tests with an addon built for the address and undefined-behaviour sanitizers.
# All of it happens in a copy, so that neither the real addon nor a running daemon notices.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' INT TERM

"$root/node_modules/.bin/tsc" --outDir "$copy/dist"
cp -R package.json scripts "$copy"
mkdir "$copy/native"
cp -R native/binding.gyp native/src "$copy/native"
ln -s "$root/node_modules" "$copy/node_modules"

flags='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g'
if ! CXXFLAGS=$flags LDFLAGS=$flags sh "$copy/scripts/build-addon.sh" > "$copy/build.log" 2>&1; then
  cat "$copy/build.log" >&2
  exit 1
fi

# They must be loaded before node itself, which is not built for them.
preload=$(ldd "$copy/native/build/Release/imageio.node" | awk '/lib(a|ub)san/ { print $3 }' | xargs)

# Node itself leaks on purpose at its end, hence no leak detection.
export ASAN_OPTIONS="detect_leaks=0:log_path=$copy/report"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:log_path=$copy/report"
cd "$copy"
failed=
for test in dist/test/native/*.test.js; do
  echo "# $test"
  if ! LD_PRELOAD=$preload node_modules/.bin/node --enable-source-maps "$test" > output 2>&1; then
    failed=yes
    cat output >&2
  fi
done
for report in report.*; do
  [ -e "$report" ] || continue
  failed=yes
  cat "$report" >&2
done
if [ -n "$failed" ]; then
  echo 'sanitize: failed' >&2
  exit 1
fi
echo 'sanitize: ok'
