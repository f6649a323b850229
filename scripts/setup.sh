#!/usr/bin/env bash
# Fetches the pinned tools into ignored folders of the repository; quick when all are there.
#   scripts/setup.sh            what building, testing and running need
#   scripts/setup.sh cargo-deny ... and this tool
source "$(dirname "$0")/env.sh"

# The pins that no lock file holds. wasm-bindgen's command must equal its library, exactly.
WORKER_BUILD=0.8.7
CARGO_DENY=0.20.2
WASM_BINDGEN=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock)

TARGET=wasm32-unknown-unknown

installed() { # crate version
  grep -qs "^\"$1 $2 (" .tools/cargo/.crates.toml
}

cargo_install() { # crate version [option of cargo install...]
  installed "$1" "$2" && return
  say "Compiling $1 $2 into .tools (once; takes minutes)"
  # One target folder for all tools: they share dependencies, and an interrupted compilation
  # goes on where it stopped. Not optimised: compiling them takes longer than using them.
  CARGO_TARGET_DIR=.tools/target CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo install --locked --root .tools/cargo "$1@$2" "${@:3}"
}

node_modules() {
  local want
  want=$(cat package.json package-lock.json .npmrc | digest)
  # npm ci deletes node_modules first, and the stamp with it: an interrupted run leaves none.
  [ "$(cat node_modules/.stamp 2>/dev/null)" = "$want" ] && return
  say "Installing the npm packages of package-lock.json (once; takes about a minute)"
  PATH=$SYSTEM_PATH npm ci --no-audit --no-fund --loglevel=error
  echo "$want" >node_modules/.stamp
}

have rustup || have cargo || die "Rust is missing: install rustup, then run make again"
have npm || die "npm is missing: install Node.js 20 or later, then run make again"
have cc || have gcc || have clang || die "a C compiler is missing, for example Debian's build-essential"

lock
# The network is slow, the compiler takes the processor: one beside the other.
aside node_modules

if [ ! -d "$(rustc --print target-libdir --target $TARGET)" ]; then
  say "Adding Rust's $TARGET target"
  rustup target add $TARGET
fi

if ! installed worker-build $WORKER_BUILD && [ "$(uname)" = Linux ] && [ -z "${OPENSSL_DIR:-}" ]; then
  # worker-build links the system's TLS library, even where it has nothing to download.
  pkg-config --exists openssl 2>/dev/null ||
    die "worker-build needs OpenSSL's headers: install them (Debian: pkg-config and libssl-dev), then run make again"
fi
cargo_install worker-build $WORKER_BUILD
# The command alone, without what its test runner fetches browsers' drivers with.
cargo_install wasm-bindgen-cli "$WASM_BINDGEN" --bin wasm-bindgen --no-default-features
[ "${1:-}" != cargo-deny ] || cargo_install cargo-deny $CARGO_DENY
rejoin

# Only an interrupted compilation has a use for it, and it is large.
rm -rf .tools/target
