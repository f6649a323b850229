#!/usr/bin/env bash
# Everything that must hold beside the tests; stops at the first fault.
source "$(dirname "$0")/env.sh"
scripts/setup.sh cargo-deny

say "Formatting"
cargo fmt --all --check

say "Lints, native"
cargo clippy --workspace --all-targets --all-features --locked --quiet -- -D warnings

say "Lints, wasm"
WASM_BINDGEN_USE_JS_SYS=1 cargo clippy --workspace --all-features --locked --quiet \
  --target wasm32-unknown-unknown -- -D warnings

say "Documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked --quiet

say "Licences, bans, sources"
cargo deny --log-level error --workspace check licenses bans sources

for config in wrangler.sync.jsonc wrangler.jsonc; do
  say "Deployment of $config, dry run"
  quietly wrangler deploy --dry-run -c "$config"
done
