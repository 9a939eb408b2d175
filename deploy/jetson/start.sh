#!/bin/sh
# The container's command: build the engines if needed, then run; the run receives the container's signals.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
state="${NUMCLIP_STATE:-/var/lib/numclip}"

"$here/first-boot.sh"
# shellcheck disable=SC2086 # flags are several words
exec "${NUMCLIP_BIN:-$here/venv/bin/numclip}" run "$NUMCLIP_SOURCE" \
    --model "$state/current/age.engine" --detector "$state/current/faces.engine" ${NUMCLIP_FLAGS:-}
