#!/bin/sh
# Before the service starts: build the engines of face finder and model, unless they exist.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
state="${NUMCLIP_STATE:-/var/lib/numclip}"

if [ -e "$state/current/age.engine" ] && [ -e "$state/current/faces.engine" ]; then
    exit 0
fi
exec "$here/engine.sh"
