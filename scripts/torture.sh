#!/usr/bin/env bash
# Long trials, one by its name: scripts/torture.sh NAME [OPTIONS]. They are not part of `make test`, which
# has a short form of each. The Workers must be built (`make build`).
source "$(dirname "$0")/env.sh"

name=${1:-}
[ $# = 0 ] || shift
case $name in
  # A day of an app in compressed time, in the units of the bill. [--write: into docs/costs.md]
  costs) node tests/torture/costs.mjs "$@" ;;
  *) die "torture.sh: costs [--write | --tables]" ;;
esac
