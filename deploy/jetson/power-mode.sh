#!/bin/sh
# The strongest power mode and steady clocks; `power-mode.sh ID` takes another mode of /etc/nvpmodel.conf.
# Run as root. Heat and supply decide whether the strongest mode is a good idea: see the board's manual.
set -eu

conf="${NVPMODEL_CONF:-/etc/nvpmodel.conf}"
mode="${1:-}"
if [ -z "$mode" ] && [ -r "$conf" ]; then
    # Not the highest number: on Orin Nano the strongest is 2, on AGX Orin it is 0. Its name starts with MAXN.
    mode="$(sed -n 's/^ *< *POWER_MODEL  *ID=\([0-9][0-9]*\)  *NAME=MAXN[^ >]* *>.*/\1/p' "$conf" | head -n 1)"
fi
if [ -z "$mode" ]; then
    echo "power-mode: expected a mode named MAXN in $conf, found none; give one's number" >&2
    exit 1
fi
# Some changes want a reboot and ask; no answer means no, and the mode holds from the next boot on.
nvpmodel -m "$mode" </dev/null
jetson_clocks
echo "power mode $mode, clocks locked"
