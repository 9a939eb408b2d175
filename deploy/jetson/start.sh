#!/bin/sh
# What the container runs: the engines if need be, then the run itself, which takes the container's signals.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
state="${NUMCLIP_STATE:-/var/lib/numclip}"

"$here/first-boot.sh"
# shellcheck disable=SC2086 # flags are several words
exec "${NUMCLIP_BIN:-$here/venv/bin/numclip}" run "$NUMCLIP_SOURCE" \
    --model "$state/current/age.engine" --detector "$state/current/faces.engine" ${NUMCLIP_FLAGS:-}
