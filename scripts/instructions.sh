#!/usr/bin/env bash
# Counts the instructions that the native engine takes for a message of each kind, by callgrind, and
# compares them with bench/instructions.json: 5 % more fails, 5 % less asks for --update.
#   instructions.sh            compares
#   instructions.sh --update   renews the baseline and its table in docs/performance.md
# Another compiler or machine than the baseline's is a named skip, and so is a missing valgrind, which root
# gets from Debian. Where CI=true both fail, and so does a baseline that asks for --update.
source "$(dirname "$0")/env.sh"

if ! have valgrind && [ "$(id -u)" = 0 ] && have apt-get; then
  lock
  say "Installing Debian's valgrind, for the instructions of the engine (once)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends valgrind; } >&2 || true
fi
if ! have valgrind; then
  [ "${CI:-}" != true ] || die "no valgrind for the instructions of the engine: install it"
  say "Skipped: the instructions of the engine, because no valgrind is here"
  exit 0
fi

say "Instructions of the engine"
node scripts/instructions.mjs "$@"
