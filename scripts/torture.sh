#!/usr/bin/env bash
# What takes too long for every test run: torture.sh [convergence|evictions|storm|soak|scale], or all of them.
# Each prints its seed, which SEED= gives again, and what it counted; MINUTES= and others set how much.
source "$(dirname "$0")/env.sh"

# Sockets take file descriptors: here, and two each in workerd.
ulimit -n "$(ulimit -Hn)"

play() {
  say "Torture: $1"
  case $1 in
    evictions)
      scripts/build.sh sync-worker --out sync-worker/build-faults --features faults
      node tests/torture/evictions.mjs
      ;;
    convergence | storm | soak | scale) node "tests/torture/$1.mjs" ;;
    *) die "no such torture: $1" ;;
  esac
}

if [ $# -gt 0 ]; then
  for name in "$@"; do play "$name"; done
else
  for name in convergence evictions storm scale soak; do play "$name"; done
fi
