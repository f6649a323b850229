#!/usr/bin/env bash
# Measures Tidewire beside its peers and writes docs/performance.md.
#   scripts/bench.sh                  all scenarios; about 40 minutes
#   scripts/bench.sh --only NAME      one: fanout, scoped, batch, mutations, catchup, waking,
#                                     libraries, size
#   scripts/bench.sh --rounds 3       as many rounds of each, for a quick look
#   scripts/bench.sh --render         measures nothing: the page again, from the numbers that are there
#   scripts/bench.sh --short          all with tiny numbers, for correctness alone; BENCH_SHORT=1 too
# The status is 1 where a scenario that was measured misses a floor; the page is written before.
source "$(dirname "$0")/env.sh"

# A socket takes two file descriptors of workerd, and 9,000 of them are measured.
NEEDED=20000
[ "${BENCH_SHORT:-}" != 1 ] || set -- --short "$@"
case " $* " in
*" --short "*) ;;
*)
  ulimit -n $NEEDED 2>/dev/null || [ "$(ulimit -n)" -ge $NEEDED ] ||
    die "bench needs $NEEDED open files and the hard limit is $(ulimit -Hn): raise it (nofile in limits.conf)"
  ;;
esac

install() { # folder
  local want
  want=$(cat "$1/package.json" "$1/package-lock.json" "$1/.npmrc" | digest)
  [ "$(cat "$1/node_modules/.stamp" 2>/dev/null)" = "$want" ] && return
  say "Installing the packages of $1/package-lock.json (once)"
  (cd "$1" && PATH=$SYSTEM_PATH npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  echo "$want" >"$1/node_modules/.stamp"
}

install bench
case " $* " in
*" --short "*) ;; # It does without LiveStore, which brings a hundred packages.
*) install bench/livestore ;;
esac
say "Bench${*:+ $*}"
node bench/run.mjs "$@"
