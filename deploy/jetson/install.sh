#!/bin/sh
# Set a Jetson up, without containers: run this on the board, as root, in the kit's folder. Running it again is harmless.
#
# The system's OpenCV (with GStreamer) and TensorRT are used; nothing replaces them.
set -eu

here="$(cd "$(dirname "$0")" && pwd)"
if [ "$(id -u)" != 0 ]; then
    echo "install: must run as root; run: sudo $0" >&2
    exit 1
fi
if [ ! -e /etc/nv_tegra_release ]; then
    echo "install: needs a Jetson with JetPack 6.1 or newer, but /etc/nv_tegra_release does not exist" >&2
    exit 1
fi

apt-get update
apt-get install -y --no-install-recommends python3-venv python3-libnvinfer
# JetPack's build of OpenCV; if its archive has none, venv.sh installs a wheel.
apt-get install -y --no-install-recommends libopencv-python || true

id numclip >/dev/null 2>&1 || useradd --system --home-dir /var/lib/numclip --shell /usr/sbin/nologin numclip
install -d -o numclip -g numclip -m 750 /var/lib/numclip
install -d /opt/numclip /etc/numclip

if [ ! -e /opt/numclip/venv ]; then
    sh "$here/venv.sh" /opt/numclip/venv-first "$(ls "$here"/numclip-*.whl)"
    ln -s venv-first /opt/numclip/venv
fi

install -m 755 "$here/engine.sh" "$here/first-boot.sh" "$here/power-mode.sh" "$here/update.sh" "$here/venv.sh" /opt/numclip/
[ -e /etc/numclip/numclip.env ] || install -m 644 "$here/numclip.env" /etc/numclip/
install -m 644 "$here/99-numclip-camera.rules" /etc/udev/rules.d/
install -m 644 "$here/numclip.service" /etc/systemd/system/
udevadm control --reload && udevadm trigger --subsystem-match=video4linux

runuser -u numclip -- env NUMCLIP_CACHE=/var/lib/numclip /opt/numclip/venv/bin/numclip doctor ||
    echo "install: run the commands above, then: sudo systemctl restart numclip"
systemctl daemon-reload
systemctl enable --now --no-block numclip.service
echo "next: journalctl -fu numclip      # the first start builds the engine, then ages appear"
