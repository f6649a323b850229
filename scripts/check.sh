#!/usr/bin/env bash
# Everything that must hold beside the tests; stops at the first fault.
source "$(dirname "$0")/env.sh"
aside scripts/setup.sh cargo-deny

say "Formatting"
cargo fmt --all --check

say "Lints, native"
cargo clippy --workspace --all-targets --all-features --locked --quiet -- -D warnings

say "Lints, wasm"
WASM_BINDGEN_USE_JS_SYS=1 cargo clippy --workspace --all-features --locked --quiet \
  --target wasm32-unknown-unknown -- -D warnings

say "Types of the npm package, its tests and its examples"
for project in client app-worker/demo tests/client examples/client examples/ts-publisher examples/ts-hooks; do tsc --noEmit -p "$project"; done

say "Documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features --locked --quiet

say "Tests and snippets that the documentation names"
node scripts/check-docs.mjs

rejoin
say "Licences, bans, sources"
cargo deny --log-level error --workspace check licenses bans sources

say "Advisories"
# Their databases are on the network. One that cannot be reached, or not within a minute, is a
# warning by name; what it knows against a dependency is a failure.
bounded() { if have timeout; then timeout 60 "$@"; else "$@"; fi; }
unchecked() { say "WARNING: $1 could not reach its database; not checked: $2"; }

if bounded cargo deny fetch db >/dev/null 2>&1; then
  cargo deny --log-level error --offline --workspace check advisories
else
  unchecked "cargo deny check advisories" "the crates of Cargo.lock"
fi
# At this level npm audit fails only when it gets no answer.
if PATH=$SYSTEM_PATH bounded npm audit --audit-level=none >/dev/null 2>&1; then
  PATH=$SYSTEM_PATH bounded npm audit
else
  unchecked "npm audit" "the packages of package-lock.json"
fi

say "Size"
node scripts/size.mjs --check
bytes=$(gzip -9c sync-worker/build/index_bg.wasm | wc -c)
[ "$bytes" -le 500000 ] || die "the sync Worker has $bytes bytes gzipped, 500000 at most"

NO_OPT=1 scripts/build.sh examples/rust-{handler,postgres}
for config in wrangler.sync.jsonc wrangler.jsonc \
  examples/{d1,ts-publisher,ts-hooks,rust-handler,rust-postgres}/wrangler.jsonc; do
  say "Deployment of $config, dry run"
  quietly wrangler deploy --dry-run -c "$config"
done
