#!/bin/sh
# Build the engines of a model and of the face finder, check the model's values in years, and only then replace the old
# engines: engine.sh [MODEL]
#
# Each pair of engines has its own folder; `current` links to the one in use, `previous` to the one before. If the build
# or the check fails, both links stay as they were.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
state="${NUMCLIP_STATE:-/var/lib/numclip}"
numclip="${NUMCLIP_BIN:-$here/venv/bin/numclip}"
model="${1:-${NUMCLIP_MODEL:-age-nano}}"

mkdir -p "$state/engines"
new="$(mktemp -d "$state/engines/$(date +%Y%m%d-%H%M%S)-XXXX")"
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A model file is kept beside its engine, which takes its calibration from there.
case "$model" in
    *.onnx)
        cp "$model" "$new/age.onnx"
        model="$new/age.onnx"
        ;;
esac

echo "numclip: building the engines of faces-nano and $model on this board; this takes some minutes"
"$numclip" engine faces-nano --out "$new/faces.engine"
"$numclip" engine "$model" --out "$new/age.engine"
echo "numclip: comparing it with $model, in years"
if [ -n "${NUMCLIP_VERIFY_DATA:-}" ]; then
    "$numclip" verify "$model" "$new/age.engine" --data "$NUMCLIP_VERIFY_DATA"
else
    "$numclip" verify "$model" "$new/age.engine"
fi
chmod 755 "$new"
trap - EXIT

# A new link is renamed over the old one, so that `current` exists at every moment.
switch() {
    ln -s "$1" "$state/$2.new"
    mv -T "$state/$2.new" "$state/$2"
}
rm -f "$state/current.new" "$state/previous.new"
old="$(readlink "$state/current" || true)"
if [ -n "$old" ]; then
    switch "$old" previous
fi
switch "engines/$(basename "$new")" current

# Only these two are kept.
for engine in "$state/engines"/*; do
    case "engines/$(basename "$engine")" in
        "$(readlink "$state/current")" | "$old") ;;
        *) rm -rf "$engine" ;;
    esac
done
echo "numclip: the new engines are current"
