#!/bin/sh
# Make numclip's environment on the board: venv.sh DIR WHEEL. It uses the system's OpenCV and TensorRT; the extra jetson
# brings what the engines and their verification need beside them.
set -eu

dir="$1"
wheel="$2"

python3 -m venv --system-site-packages "$dir"
new_enough='import cv2, sys; sys.exit(tuple(int(n) for n in cv2.__version__.split(".")[:2]) < (4, 8))'
opencv=""
if ! python3 -c "$new_enough" 2>/dev/null; then
    echo "venv: the system has no OpenCV 4.8 or newer; installing a wheel, which cannot read csi:// cameras" >&2
    opencv="opencv-python-headless>=4.8"
fi
# The system's OpenCV was built for NumPy 1 and does not load with a newer one.
"$dir/bin/python" -m pip install --quiet "numpy>=1.24,<2" ${opencv:+"$opencv"} "${wheel}[jetson]"
