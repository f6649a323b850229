#!/usr/bin/env bash
# Says what is wrong or risky in the settings, and with URL= and TIDEWIRE_KEY (or KEY=) also in a
# running deployment. Fails where something is wrong; with STRICT=1 also where something is risky.
source "$(dirname "$0")/env.sh"
cargo build --example doctor --locked --quiet
exec node scripts/doctor.mjs
