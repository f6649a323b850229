#!/usr/bin/env bash
# Prints the path of a Chromium for the tests in a browser: BROWSER, else one of the system's, else
# Debian's, which root may install. Without any: status 3, with which the tests are skipped by name;
# where CI=true, status 1.
source "$(dirname "$0")/env.sh"

find_browser() {
  local name
  for name in ${BROWSER:+"$BROWSER"} chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" 2>/dev/null && return
  done
  for name in "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" \
    /Applications/Chromium.app/Contents/MacOS/Chromium; do
    [ ! -x "$name" ] || { echo "$name" && return; }
  done
  return 1
}

find_browser && exit
if [ "$(id -u)" = 0 ] && have apt-get; then
  lock
  say "Installing Debian's chromium, for the tests in a browser (once)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium; } >&2 || true
  find_browser && exit
fi
[ "${CI:-}" != true ] || die "no Chromium for the tests in a browser: install one, or set BROWSER to its path"
say "WARNING: no Chromium: the tests in a browser are skipped; install one, or set BROWSER to its path"
exit 3
