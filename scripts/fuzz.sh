#!/usr/bin/env bash
# Fuzzes the decoders and the engine, guided by coverage, on stable Rust: libFuzzer mutates what
# reached new code. Inputs are plain text, their beginnings are in fuzz/corpus/.
#   scripts/fuzz.sh               every target for 10 minutes, one after another
#   scripts/fuzz.sh 3600 engine   ... for so many seconds, this target alone
#   scripts/fuzz.sh quick         every target for 15 s, two at a time, from fuzz/corpus/ alone
#   scripts/fuzz.sh build         builds them
# What a long run finds stays in fuzz/found/, and the next one goes on from there. A finding that
# is mended goes into fuzz/corpus/ under a name that tells what it was, beside a native test.
source "$(dirname "$0")/env.sh"

targets=$(cd fuzz/targets && printf '%s ' *.rs)
targets=${targets//.rs/}
jobs=1 quick='' seconds=${1:-600}
if [ "$seconds" = quick ]; then
  jobs=2 quick=yes seconds=15
fi
if [ -n "${2:-}" ]; then
  [[ " $targets" == *" $2 "* ]] || die "no fuzz target is called $2; there are: $targets"
  targets=$2
fi

# libFuzzer is C++; SQLite, which the tests have anyway, is C.
if ! have "${CXX:-c++}"; then
  [[ "$seconds" == build || -n "$quick" ]] && [ "${CI:-}" != true ] ||
    die "a C++ compiler is missing, for example Debian's build-essential"
  say "Skipped: fuzzing, because no C++ compiler is here (Debian: build-essential)"
  exit 0
fi

host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes with --sanitizer none, all of it known to stable Rust. It goes by --target,
# so that build scripts and macros are spared.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
export CARGO_TARGET_DIR=$PWD/fuzz/target RUST_BACKTRACE=1
say "Building the fuzz targets"
cargo build --manifest-path fuzz/Cargo.toml --release --locked --quiet --target "$host"
[ "$seconds" != build ] || exit 0

found=fuzz/found
mkdir -p "$found"
# The longest input: what the decoder's bounds are about, or what a slow target gets through.
longest() {
  case $1 in
    cursor) echo 160 ;;
    token) echo 8500 ;;
    *) echo 4096 ;;
  esac
}

fuzz() { # target
  local target=$1 program=$CARGO_TARGET_DIR/$host/release/$1 log=$found/$1.log own=$found/$1
  local failed='' input
  [ -z "$quick" ] || own=$(mktemp -d)
  mkdir -p "$own"
  # 10 s are a thousand times what the slowest input takes, 1 GiB ten times what any needs.
  "$program" -max_total_time="$seconds" -max_len="$(longest "$target")" -timeout=10 \
    -rss_limit_mb=1024 -dict=fuzz/json.dict -print_final_stats=1 \
    -artifact_prefix="$found/$target-" "$own" "fuzz/corpus/$target" >"$log" 2>&1 &
  wait $! || failed=yes
  [ -z "$quick" ] || rm -rf "$own"
  if [ -z "$failed" ]; then
    printf '%-8s %10d executions, %5d edges covered, %d s\n' "$target" \
      "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")" \
      "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" "$seconds"
    return
  fi
  {
    sed -n '/panicked at\|^==.*ERROR: /,/^stack backtrace\|^$/p' "$log" | head -n 20
    printf '%s\n' "error: fuzz target $target failed; all it said is in $log"
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    if [ -n "$input" ]; then
      printf '%s\n' "To reproduce: ${program#"$PWD/"} $input"
      # Where the file stays behind on another machine.
      printf '%s\n' "In base64: $(base64 <"$input" | tr -d '\n')"
    fi
  } >&2
  return 1
}

lane() { # number: every so many'th target
  local at=0 target result=0
  # A fuzzer does not outlive the script that is killed.
  trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
  for target in $targets; do
    [ $((at++ % jobs)) -ne "$1" ] || fuzz "$target" || result=1
  done
  return $result
}

say "Fuzzing, $seconds s each: $targets"
lanes=() failed=''
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for ((number = 0; number < jobs; number++)); do
  lane $number &
  lanes+=($!)
done
for pid in "${lanes[@]}"; do
  wait "$pid" || failed=yes
done
[ -z "$failed" ] || die "fuzzing found something"
