#!/usr/bin/env bash
# What takes too long for every test run, all of it or one by its name: torture.sh [NAME [OPTIONS]].
# `make test` has a short form of each (tests/model*/, tests/workerd/{converging,torturing,costs}.test.mjs). Each
# prints its seed, which SEED= gives again, and what it counted. MINUTES= sets how long evictions (10), storm (1)
# and soak (60) last, each alone or all; others are below and in tests/torture/. What fails does not keep the rest
# from being played. The Workers must be built (`make build`).
#   model        both model tests of the engine, natively: STEPS=1000000 each, on THREADS=2
#   convergence  five clients that go offline, crash and come back end equal to each other and to the server
#   evictions    evictions, aborts and panics between any two frames
#   storm        thousands come back at once while others publish
#   scale        as many sockets as one object carries
#   costs        a day of an app in the units of the bill [--write: into docs/costs.md] [--tables]
#   soak         an hour of mixed work: memory and storage stay flat
source "$(dirname "$0")/env.sh"

# Sockets take file descriptors: here, and two each in workerd.
ulimit -n "$(ulimit -Hn)"

# Prints the steps that were played and what they came across; a failure with its history.
model() { # suite steps-in-a-history
  MODEL_HISTORIES=$((${STEPS:-1000000} / $2 + 1)) MODEL_THREADS=${THREADS:-2} MODEL_SEED=${SEED:-$(date +%s)000000} \
    cargo test --profile torture --locked --quiet --test "$1" -- --nocapture
}

play() { # name [option...]
  local name=$1
  shift
  case $name in
    model)
      say "Torture: $name"
      # A history of so many steps has more, which are added to these.
      local failed=
      model model 220 || failed=yes
      model model_sources 250 || failed=yes
      [ -z "$failed" ] || die "a model fails"
      return
      ;;
    convergence | storm | scale | costs | soak) ;;
    evictions) NO_OPT=1 scripts/build.sh sync-worker --out sync-worker/build-faults --features faults ;;
    *) die "no such torture: $name" ;;
  esac
  say "Torture: $name"
  node "tests/torture/$name.mjs" "$@"
}

if [ $# -gt 0 ]; then
  play "$@"
else
  failed=()
  for name in model convergence evictions storm scale costs soak; do
    scripts/torture.sh "$name" || failed+=("$name")
  done
  [ ${#failed[@]} -eq 0 ] || die "failed: ${failed[*]}"
fi
