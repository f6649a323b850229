#!/usr/bin/env bash
# All tests: native ones on cargo, the engine's instructions, those of the npm package, tests/workerd/
# against the built Workers in workerd, among them a sync Worker that panics on demand and the examples;
# then 15 s for each fuzz target. What computes runs beside what waits, and is shown when both are done.
#   scripts/test.sh          all
#   scripts/test.sh native   the native tests and the instructions; builds what is fuzzed
source "$(dirname "$0")/env.sh"

if [ "${1:-}" = native ]; then
  say "Native tests"
  cargo test --workspace --locked --quiet
  scripts/instructions.sh
  scripts/fuzz.sh build
  exit
fi

# Two compilations with a target folder each: where one links, which takes one core, the other goes on.
aside cargo test --workspace --locked --quiet --no-run
NO_OPT=1 scripts/build.sh sync-worker --out sync-worker/build-faults --features faults
NO_OPT=1 scripts/build.sh examples/rust-{auth,handler,postgres,publisher}
for example in ts-publisher ts-hooks; do
  quietly esbuild "examples/$example/src/index.ts" --bundle --format=esm \
    --outfile="examples/$example/build/index.js"
done
# Finds, or installs, what the inspector's tests and those with a database need; without it they are
# skipped by name.
scripts/browser.sh >/dev/null || [ $? = 3 ]
scripts/postgres.sh >/dev/null || [ $? = 3 ]
rejoin

# Gets what the servers' tests leave over: these wait a lot, but no answer may take long.
aside nice -n 19 scripts/test.sh native

say "Tests of the npm package"
node --test --test-reporter=spec tests/client/*.test.ts examples/client/src/*.test.ts

scripts/bench.sh --short

say "Tests in workerd"
# Each file starts Workers of its own: two at a time is what two cores carry.
node --test --test-reporter=spec --test-concurrency=2 --test-timeout=300000 \
  tests/workerd/*.test.mjs
rejoin

scripts/fuzz.sh quick
