#!/bin/sh
# Runs the addon's tests with an addon built for the address and undefined-behaviour sanitizers, and
# those of the native front also for the thread sanitizer. All of it happens in copies, so that neither
# the real addon nor a running daemon notices.
set -eu
cd "$(dirname "$0")/.."
root=$PWD

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' INT TERM

sh scripts/setup.sh start
cp -R package.json scripts dist "$copy"
mkdir "$copy/native"
cp -R native/binding.gyp native/src "$copy/native"
ln -s "$root/node_modules" "$copy/node_modules"
cd "$copy"

# One file for each directory: most of what compilers do is to read the headers.
for directory in native/src native/src/transport native/src/nbd; do
  (cd "$directory" && printf '#include "%s"\n' *.cc > all.cc)
done
sed -i "/'sources': \[/,/\],/c 'sources': ['src/all.cc', 'src/transport/all.cc', 'src/nbd/all.cc']," native/binding.gyp

# Optimized as little as reports stay readable with: it halves the time that the compiler takes.
build() {
  if ! CXXFLAGS="$1 -O1 -fno-omit-frame-pointer -g1" LDFLAGS=$1 sh scripts/build-addon.sh > build.log 2>&1; then
    cat build.log >&2
    exit 1
  fi
}

# run TEST [COMMAND ...]: with the sanitizers' libraries, which must be loaded before node itself, as
# that is not built for them.
failed=
run() {
  test=$1
  shift
  echo "# $test"
  libraries=$(ldd native/build/Release/imageio.node | awk '/lib(a|ub|t)san/ { print $3 }' | xargs)
  if ! LD_PRELOAD=$libraries "$@" node_modules/.bin/node --enable-source-maps "$test" > output 2>&1; then
    failed=yes
    cat output >&2
  fi
}

build '-fsanitize=address,undefined -fno-sanitize-recover=all'
# Node itself leaks on purpose at its end, hence no leak detection.
# Tests start other programs, which are not looked at: hence the names in the reports.
log="log_exe_name=1:log_path=$copy/report"
export ASAN_OPTIONS="detect_leaks=0:$log"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:$log"
for test in dist/test/native/*.test.js; do
  run "$test"
done

# It finds its shadow memory taken where addresses are very random, and what it sees of node's own
# threads without their locks would look like races.
if setarch -R true 2> /dev/null; then
  build '-fsanitize=thread'
  export TSAN_OPTIONS="ignore_noninstrumented_modules=1:$log"
  for test in dist/test/native/transport*.test.js dist/test/native/nbd.test.js; do
    run "$test" setarch -R
  done
else
  echo 'sanitize: no thread sanitizer, as addresses cannot be fixed here'
fi

for report in report.node.*; do
  [ -e "$report" ] || continue
  failed=yes
  cat "$report" >&2
done
if [ -n "$failed" ]; then
  echo 'sanitize: failed' >&2
  exit 1
fi
echo 'sanitize: ok'
