#!/bin/sh
# Set the strongest power mode and lock the clocks; `power-mode.sh ID` sets another mode of /etc/nvpmodel.conf.
# Run as root. Check the board's manual whether its cooling and power supply allow the strongest mode.
set -eu

conf="${NVPMODEL_CONF:-/etc/nvpmodel.conf}"
mode="${1:-}"
if [ -z "$mode" ] && [ -r "$conf" ]; then
    # Not the highest number: on Orin Nano the strongest is 2, on AGX Orin it is 0. Its name starts with MAXN.
    mode="$(sed -n 's/^ *< *POWER_MODEL  *ID=\([0-9][0-9]*\)  *NAME=MAXN[^ >]* *>.*/\1/p' "$conf" | head -n 1)"
fi
if [ -z "$mode" ]; then
    echo "power-mode: $conf has no mode named MAXN; give the number of a mode" >&2
    exit 1
fi
# Some changes ask for a reboot; without an answer nothing reboots, and the mode applies from the next boot on.
nvpmodel -m "$mode" </dev/null
jetson_clocks
echo "power mode $mode, clocks locked"
