#!/usr/bin/env bash
# Tests that take longer than a commit should wait. What they found is in docs/reliability.md.
#   torture.sh model   both model tests, STEPS=1000000 steps each on THREADS=2 threads; SEED repeats a run
source "$(dirname "$0")/env.sh"

# Prints the seed, the steps that were played and what they came across; a failure with its history.
model() {
  local suite=$1 length=$2 steps=${STEPS:-1000000}
  say "$suite: $steps steps, the model test in profile torture"
  MODEL_HISTORIES=$((steps / length + 1)) MODEL_THREADS=${THREADS:-2} MODEL_SEED=${SEED:-$(date +%s)000000} \
    cargo test --profile torture --locked --quiet --test "$suite" -- --nocapture
}

case ${1:-} in
  model)
    # A history of so many steps has more, which are added to these.
    model model 220
    model model_sources 250
    ;;
  *) die "usage: torture.sh model" ;;
esac
