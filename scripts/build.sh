#!/usr/bin/env bash
# Builds Workers to wasm; does nothing when their inputs have not changed.
#   scripts/build.sh                      the npm package into client/dist, the demo with it, and both
#                                         Workers, each into its folder build/
#   scripts/build.sh examples/rust-publisher ...
#                                         these, each into its folder build/
#   scripts/build.sh sync-worker --out sync-worker/build-faults --features faults
#                                         one, elsewhere, with options for cargo
# With NO_OPT=1 without wasm-opt, which takes as long as linking: for what is neither deployed nor measured.
source "$(dirname "$0")/env.sh"

# The hash of everything that can change the result. tests/ and docs/ cannot.
inputs() { # worker [cargo option...]
  local worker=$1
  shift
  {
    echo "$*${KEEP_NAMES:+ names}${NO_OPT:+ no-opt}"
    rustc -V
    cat .tools/cargo/.crates.toml node_modules/.stamp Cargo.toml Cargo.lock scripts/build.sh
    find src "$worker" -type d -name 'build*' -prune -o -type f -print | LC_ALL=C sort |
      while IFS= read -r file; do
        echo "$file"
        cat "$file"
      done
  } | digest
}

# Builds those of `workers` that are not up to date, into `out` or each into its folder build/, with
# `options` for cargo.
build() {
  local at worker folder want stale=() wants=() packages=()
  for worker in "${workers[@]}"; do
    folder=${out:-$worker/build}
    want=$(inputs "$worker" ${options[@]+"${options[@]}"})
    [ "$(cat "$folder/.stamp" 2>/dev/null)" = "$want" ] && continue
    rm -f "$folder/.stamp"
    stale+=("$worker")
    # As of now: what is edited while this builds is built the next time.
    wants+=("$want")
    packages+=(-p "${worker##*/}")
  done
  [ ${#stale[@]} -gt 0 ] || return 0

  say "Building ${stale[*]}"
  # The compilation first, by itself, for cargo's own messages and progress, and all at once, because
  # linking takes one core each; worker-build then finds it done. The variable is the one that
  # worker-build sets: without it all compiles twice.
  WASM_BINDGEN_USE_JS_SYS=1 cargo build "${packages[@]}" --lib --release --locked \
    --target wasm32-unknown-unknown ${options[@]+"${options[@]}"}
  for at in "${!stale[@]}"; do
    worker=${stale[at]} folder=${out:-${stale[at]}/build}
    quietly worker-build "$worker" --release ${NO_OPT:+--no-opt} --out-dir "$PWD/$folder" --locked ${options[@]+"${options[@]}"}
    enter "$folder/index.js"
    # Profiles want them.
    [ -n "${KEEP_NAMES:-}" ] || node scripts/strip-names.mjs "$folder/index_bg.wasm"
    echo "${wants[at]}" >"$folder/.stamp"
  done
}

# Puts a sync Worker's entry around what worker-build has made.
enter() { # index.js
  grep -q SyncEngine "$1" || return 0
  "$ESBUILD_BIN" src/workers/entry.js --bundle --minify --format=esm --log-level=error \
    --alias:worker-build="$PWD/$1" --external:'*.wasm' --external:cloudflare:workers --outfile="$1" --allow-overwrite
}

lock
workers=() out='' options=()
while [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; do
  workers+=("$1")
  shift
done
if [ "${1:-}" = --out ]; then
  out=$2
  shift 2
fi
options=("$@")
if [ ${#workers[@]} -gt 0 ]; then
  build
  exit
fi

rm -rf client/dist
tsc -p client
node scripts/demo.mjs
workers=(app-worker sync-worker)
build
say "Size of the npm package"
node scripts/size.mjs
