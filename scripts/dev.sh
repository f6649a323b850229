#!/usr/bin/env bash
# Starts dev.mjs on the pinned Node: `make dev`, or with PORT, STATE and ENV_FILE set by hand.
source "$(dirname "$0")/env.sh"
export PORT=${PORT:-8787} STATE=${STATE:-.state/dev} ENV_FILE=${ENV_FILE:-.dev.vars}

if [ ! -e "$ENV_FILE" ]; then
  [ "$ENV_FILE" = .dev.vars ] || die "ENV_FILE=$ENV_FILE does not exist"
  say "Copying .dev.vars.example to .dev.vars"
  cp .dev.vars.example .dev.vars
fi

# Two runtimes on one database would damage it. The lock ends with the process.
mkdir -p "$STATE"
exec 8>"$STATE/lock"
! have flock || flock -n 8 || die "another make dev uses the state in $STATE; choose another: STATE=folder"

# exec, so that make's signals reach Node itself.
exec node scripts/dev.mjs
