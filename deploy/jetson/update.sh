#!/bin/sh
# Install a new model or a new numclip: update.sh FILE.onnx | update.sh numclip-VERSION-py3-none-any.whl
#
# Run as root. The new engine is built and checked beside the running one. If that fails, or the service does not start
# with it, the old engine and program are kept or restored, and the exit code is not 0.
set -eu

opt="${NUMCLIP_OPT:-/opt/numclip}"
state="${NUMCLIP_STATE:-/var/lib/numclip}"
env_file="${NUMCLIP_ENV:-/etc/numclip/numclip.env}"
file="${1:?expected a .onnx or .whl file}"
if [ ! -f "$file" ]; then
    echo "update: $file does not exist; give a .onnx or .whl file" >&2
    exit 1
fi

# Read the settings, without executing them.
setting() { sed -n "s/^$1='\(.*\)'\$/\1/p" "$env_file" | tail -n 1; }
as_service() { if id numclip >/dev/null 2>&1; then runuser -u numclip -- "$@"; else "$@"; fi; }
point() {
    rm -f "$2.new"
    ln -s "$1" "$2.new"
    mv -T "$2.new" "$2"
}

old_venv="$(readlink "$opt/venv")"
venv="$old_venv"
made=""
trap 'if [ -n "$made" ]; then rm -rf "$made"; fi' EXIT
case "$file" in
    *.onnx)
        made="$(mktemp -d)"
        chmod 755 "$made"
        install -m 644 "$file" "$made/new.onnx" # where the service's user can read it
        model="$made/new.onnx"
        ;;
    *.whl)
        venv="venv-$(date +%Y%m%d-%H%M%S)"
        made="$opt/$venv"
        "$opt/venv.sh" "$made" "$(readlink -f "$file")"
        model="$(setting NUMCLIP_MODEL)"
        if [ -e "$state/current/age.onnx" ]; then
            model="$state/current/age.onnx"
        fi
        ;;
    *)
        echo "update: expected a .onnx or .whl file, got $file" >&2
        exit 1
        ;;
esac

before="$(readlink "$state/current" || true)"
as_service env NUMCLIP_STATE="$state" NUMCLIP_BIN="$opt/$venv/bin/numclip" \
    NUMCLIP_VERIFY_DATA="$(setting NUMCLIP_VERIFY_DATA)" "$opt/engine.sh" "$model"
point "$venv" "$opt/venv"

# Type=notify: restart returns when the first frame has its result.
if systemctl restart numclip.service; then
    case "$file" in *.whl) made="" ;; esac
    echo "update: done; the previous engine is $state/previous"
    exit 0
fi
echo "update: the service does not start with the new version; the old version is restored" >&2
point "$old_venv" "$opt/venv"
if [ -n "$before" ]; then
    point "$before" "$state/current"
fi
systemctl restart numclip.service || true
exit 1
