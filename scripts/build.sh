#!/usr/bin/env bash
# Builds Workers to wasm; does nothing when their inputs have not changed.
#   scripts/build.sh                      both Workers, each into its folder build/, and the npm
#                                         package into client/dist
#   scripts/build.sh examples/rust-publisher
#                                         one, into its folder build/
#   scripts/build.sh sync-worker --out sync-worker/build-faults --features faults
#                                         one, elsewhere, with options for cargo
source "$(dirname "$0")/env.sh"

build() { # worker output-folder [cargo option...]
  local worker=$1 out=$2 stamp=$2/.stamp want
  shift 2
  # Everything that can change the result. tests/ and docs/ cannot.
  want=$({
    echo "$*${KEEP_NAMES:+ names}"
    rustc -V
    cat .tools/cargo/.crates.toml node_modules/.stamp Cargo.toml Cargo.lock
    find src "$worker" -type d -name 'build*' -prune -o -type f -print | LC_ALL=C sort |
      while IFS= read -r file; do
        echo "$file"
        cat "$file"
      done
  } | digest)
  [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return

  say "Building $worker into $out"
  rm -f "$stamp"
  # The compilation first, by itself, for cargo's own messages and progress; worker-build then
  # finds it done. The variable is the one that worker-build sets: without it all compiles twice.
  WASM_BINDGEN_USE_JS_SYS=1 cargo build -p "${worker##*/}" --lib --release --locked \
    --target wasm32-unknown-unknown "$@"
  quietly worker-build "$worker" --release --out-dir "$PWD/$out" --locked "$@"
  # Profiles want them.
  [ -n "${KEEP_NAMES:-}" ] || node scripts/strip-names.mjs "$out/index_bg.wasm"
  echo "$want" >"$stamp"
}

lock
if [ $# -eq 0 ]; then
  build app-worker app-worker/build
  build sync-worker sync-worker/build
  rm -rf client/dist
  tsc -p client
  say "Size of the npm package"
  node scripts/size.mjs
else
  worker=$1 out=$1/build
  shift
  if [ "${1:-}" = --out ]; then
    out=$2
    shift 2
  fi
  build "$worker" "$out" "$@"
fi
