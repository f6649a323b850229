#!/usr/bin/env bash
# What takes too long for every test run, all of it or one by its name: torture.sh [NAME [OPTIONS]].
# `make test` has a short form of each. Each prints its seed, which SEED= gives again, and what it counted;
# MINUTES= and others set how much. The Workers must be built (`make build`).
#   convergence  five clients that go offline, crash and come back end equal to each other and to the server
#   evictions    evictions, aborts and panics between any two frames
#   storm        thousands come back at once while others publish
#   scale        as many sockets as one object carries
#   costs        a day of an app in the units of the bill [--write: into docs/costs.md] [--tables]
#   soak         an hour of mixed work: memory and storage stay flat
source "$(dirname "$0")/env.sh"

# Sockets take file descriptors: here, and two each in workerd.
ulimit -n "$(ulimit -Hn)"

play() { # name [option...]
  local name=$1
  shift
  case $name in
    convergence | storm | scale | costs | soak) ;;
    evictions) scripts/build.sh sync-worker --out sync-worker/build-faults --features faults ;;
    *) die "no such torture: $name" ;;
  esac
  say "Torture: $name"
  node "tests/torture/$name.mjs" "$@"
}

if [ $# -gt 0 ]; then
  play "$@"
else
  for name in convergence evictions storm scale costs soak; do play "$name"; done
fi
