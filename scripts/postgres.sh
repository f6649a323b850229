#!/usr/bin/env bash
# Prints the folder of PostgreSQL's programs, for the tests that start a server of their own:
# POSTGRES_BIN, else the newest of the system's, else Debian's, which root may install. Without any:
# status 3, with which the tests are skipped by name; where CI=true, status 1.
source "$(dirname "$0")/env.sh"

# Debian keeps the server's programs, by version, outside PATH; so does Homebrew.
find_programs() {
  local folder program on_path
  on_path=$(command -v postgres || true)
  while IFS= read -r folder; do
    for program in postgres initdb pg_ctl psql; do
      [ -x "$folder/$program" ] || continue 2
    done
    echo "$folder"
    return
  done < <(
    echo "${POSTGRES_BIN:-}"
    printf '%s\n' /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql@*/bin | sort -rV
    echo "${on_path%/*}"
  )
  return 1
}

# The clusters that Debian's tools know, as "version name".
clusters() { pg_lsclusters -h 2>/dev/null | awk '{ print $1, $2 }' || true; }

find_programs && exit
if [ "$(id -u)" = 0 ] && have apt-get; then
  lock
  say "Installing Debian's postgresql, for the tests with a database (once)"
  export DEBIAN_FRONTEND=noninteractive
  before=$(clusters)
  { apt-get update -qq && apt-get install -qq -y --no-install-recommends postgresql; } >&2 || true
  # The package makes a cluster and starts it. Nobody asked for that one: the tests make their own.
  # One that was there before stays.
  clusters | while read -r version name; do
    grep -qxF "$version $name" <<<"$before" || pg_dropcluster --stop "$version" "$name" >&2 || true
  done
  find_programs && exit
fi
[ "${CI:-}" != true ] ||
  die "no PostgreSQL for the tests with a database: install its server, or set POSTGRES_BIN to the folder of its programs"
say "WARNING: no PostgreSQL: the tests with a database are skipped; install its server, or set POSTGRES_BIN to the folder of its programs"
exit 3
