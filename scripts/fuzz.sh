#!/bin/sh
# Throws mutated requests, responses and ClientHellos at the parsers of the native front, and replies of NBD
# servers at theirs, with the address and undefined-behaviour sanitizers: fuzz.sh [SECONDS for each, 15]. What
# breaks one is left in .fuzz/ and told; a good addition to native/fuzz/corpus/. Skipped where clang has no fuzzer.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-15}
out=.fuzz
mkdir -p "$out"

# Debian's package of a version has it under that version's name only.
compiler=$(command -v clang++ || ls /usr/bin/clang++-[0-9]* /usr/lib/llvm-*/bin/clang++ 2> /dev/null | tail -n 1)
flags='-std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all'
printf 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' > "$out/try.cc"
# shellcheck disable=SC2086 # they are several
if ! "${compiler:-clang++}" $flags -o "$out/try" "$out/try.cc" 2> /dev/null; then
  echo 'fuzz: skipped, clang++ has no fuzzer here; apt-get install clang libclang-rt-14-dev (of its version)'
  exit 0
fi

# fuzz NAME SOURCE ...: the harness native/fuzz/NAME_fuzz.cc against native/src/SOURCE.
fuzz() {
  name=$1
  shift
  # shellcheck disable=SC2086
  (cd native/src && "$compiler" $flags -o "$OLDPWD/$out/$name" "$OLDPWD/native/fuzz/${name}_fuzz.cc" "$@")
  mkdir -p "$out/corpus/$name"
  echo "# $name: $seconds seconds"
  if ! "$out/$name" -max_total_time="$seconds" -max_len=20000 -artifact_prefix="$out/$name-" \
    -print_final_stats=1 "$out/corpus/$name" "native/fuzz/corpus/$name" > "$out/$name.log" 2>&1; then
    tail -n 60 "$out/$name.log" >&2
    echo 'fuzz: failed' >&2
    exit 1
  fi
  grep -E 'number_of_executed_units|new_units_added' "$out/$name.log"
}
fuzz head transport/head_parser.cc transport/head_scanner.cc
fuzz response transport/head_parser.cc transport/head_scanner.cc
fuzz hello transport/client_hello.cc
fuzz reply nbd/reply_stream.cc nbd/pending_read.cc nbd/coverage.cc
echo 'fuzz: ok'
