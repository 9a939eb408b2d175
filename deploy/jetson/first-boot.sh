#!/bin/sh
# Before the service starts: the face detector and the engine, where they are not there yet.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
state="${NUMCLIP_STATE:-/var/lib/numclip}"
numclip="${NUMCLIP_BIN:-$here/venv/bin/numclip}"

if [ -e "$state/current/age.engine" ]; then
    exit 0
fi
"$numclip" fetch yunet || echo "numclip: without YuNet the Haar detector is used, which misses many faces" >&2
exec "$here/engine.sh"
