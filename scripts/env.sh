# shellcheck shell=bash
# Sourced by every script here: strict mode, the repository as working folder, the pinned tools
# first in PATH, and the tools' own downloads and reports switched off.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The npm that comes with the machine runs on the machine's Node; all else runs on the pinned one.
SYSTEM_PATH=${TIDEWIRE_SYSTEM_PATH:-$PATH}
export TIDEWIRE_SYSTEM_PATH=$SYSTEM_PATH
export PATH="$PWD/node_modules/.bin:$PWD/.tools/cargo/bin:$SYSTEM_PATH"

export WRANGLER_SEND_METRICS=false WRANGLER_SEND_ERROR_REPORTS=false WRANGLER_HIDE_BANNER=true
# Without these three, worker-build downloads binaries from outside the package registries.
export WASM_BINDGEN_BIN="$PWD/.tools/cargo/bin/wasm-bindgen"
export ESBUILD_BIN="$PWD/node_modules/.bin/esbuild"
export WASM_OPT_BIN="$PWD/node_modules/.bin/wasm-opt"

say() { printf '\033[1m%s\033[0m\n' "==> $*" >&2; }
die() {
  printf '%s\n' "error: $*" >&2
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# A hash of what it reads on standard input.
digest() { if have sha256sum; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1; }

# One writer at a time in .tools, node_modules and the build folders. The lock goes with the last
# process that holds the file open, so a killed run leaves none behind. (A system without flock
# runs unlocked: then do not start two targets at once.)
lock() {
  mkdir -p .tools
  exec 9>.tools/lock
  have flock || return 0
  flock -n 9 || {
    say "Waiting for another make in this folder"
    flock 9
  }
}

# Runs a command beside what follows, one at a time. Its output waits for `rejoin`, so that no line of
# one comes between those of the other. It ends with the script.
aside() {
  aside_log=$(mktemp)
  set -m # A process group of its own, so that all that it started can be ended.
  "$@" </dev/null >"$aside_log" 2>&1 &
  aside_pid=$!
  set +m
  trap 'kill -- -$aside_pid 2>/dev/null; rm -f "$aside_log"' EXIT
}

# Waits for the command aside, shows what it said, and fails if it failed.
rejoin() {
  local failed=''
  wait "$aside_pid" || failed=yes
  trap - EXIT
  cat "$aside_log"
  rm -f "$aside_log"
  [ -z "$failed" ]
}

# Runs a step whose output matters only when it fails.
quietly() {
  local log
  log=$(mktemp)
  if "$@" >"$log" 2>&1; then
    rm -f "$log"
  else
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
}
