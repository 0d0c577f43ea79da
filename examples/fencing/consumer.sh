#!/bin/sh
# Writes each line of its input to the ledger, under the epoch that firedrill wrote before it started this pod.
#
# The token is a ConfigMap, mounted as a file (`FIREDRILL_EPOCH_FILE`). It is read once, at the start: a pod that lives on after its
# region has lost the singleton must not pick up the next holder's epoch.
set -eu

epoch=$(cat "${FIREDRILL_EPOCH_FILE:-/etc/firedrill/epoch}")
export PGOPTIONS="-c firedrill.epoch=$epoch"

while IFS= read -r entry; do
    # A refusal ends it: whoever is told that its epoch is over has nothing left to do.
    printf '%s\n' "INSERT INTO ledger (entry) VALUES (:'entry');" | psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --set entry="$entry"
done
