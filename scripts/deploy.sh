#!/usr/bin/env bash
# Deploys both Workers. The sync Worker first: the app Worker's service binding must find it.
source "$(dirname "$0")/env.sh"
say "Deploying the sync Worker"
wrangler deploy -c wrangler.sync.jsonc
say "Deploying the app Worker"
wrangler deploy -c wrangler.jsonc
