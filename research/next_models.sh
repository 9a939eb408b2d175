#!/usr/bin/env bash
# Make the next models in three commands. FACES is the folder with utkface.tar, aaf.tar, fairface.tar and their CSVs.
#
#   research/next_models.sh pack FACES                  detect and crop the faces into packed/, convert start weights into starts/ (CPU)
#   research/next_models.sh train NAME                  train age-open or age-base (GPU); run again to resume
#   research/next_models.sh finish NAME FACES           export, calibrate, quantize (models of nano's size) and evaluate (CPU)
#
# age-open needs MOBILENET, the path of the ImageNet MobileNetV2 .tflite, and FACERES, that of HSE-FaceRes, faceres-deep.json. The machine with the GPU needs only the checkout, packed/
# and starts/.
set -euo pipefail
PYTHON=${PYTHON:-python}
PACKED=${PACKED:-packed} STARTS=${STARTS:-starts} RUNS=${RUNS:-runs}

data() { # NAME FOLDER: the data sets that the model may learn from
  if [ "$1" = age-open ]; then echo "fairface:$2/fairface.tar"; else echo "utkface:$2/utkface.tar aaf:$2/aaf.tar fairface:$2/fairface.tar"; fi
}

starts() { # NAME: the start weights of its recipe
  case "$1" in
    age-open) echo "$STARTS/nano.safetensors $STARTS/small.safetensors $STARTS/faceres.json" ;;
    age-base) echo "$STARTS/base.safetensors" ;;
    *) echo "expected age-open or age-base, got $1" >&2; return 2 ;;
  esac
}

case "${1:-}" in
  pack)
    mkdir -p "$STARTS"
    # shellcheck disable=SC2046
    "$PYTHON" -m numclip.research.pack_faces --data $(data all "$2") --out "$PACKED"
    "$PYTHON" -m numclip.research.start_weights dlib --out "$STARTS/face-resnet.safetensors"
    "$PYTHON" -m numclip.research.start_weights dlib-base --out "$STARTS/base.safetensors"
    if [ -n "${MOBILENET:-}" ]; then
      "$PYTHON" -m numclip.research.start_weights mobilenetv2 "$MOBILENET" --out "$STARTS/nano.safetensors"
    fi
    if [ -n "${FACERES:-}" ]; then
      "$PYTHON" -m numclip.research.start_weights faceres "$FACERES" --out "$STARTS/small.safetensors"
      "$PYTHON" -m numclip.research.faceres_ages "$FACERES" --data "fairface:$PACKED/fairface.tar" --out "$STARTS/faceres.json"
    fi
    ;;
  train)
    given=$(starts "$2")
    # shellcheck disable=SC2046,SC2086
    "$PYTHON" -m numclip.cli.main train --recipe "$2" --data $(data "$2" "$PACKED") --out "$RUNS/$2" --resume ${given:+--pretrained $given} ${SMOKE:+--smoke}
    ;;
  finish)
    starts "$2" >/dev/null
    out=$RUNS/$2/$2.onnx
    # shellcheck disable=SC2046
    "$PYTHON" -m numclip.cli.main export "$RUNS/$2/best.safetensors" --out "$out" --storage fp16 --data $(data "$2" "$3")
    # shellcheck disable=SC2046
    "$PYTHON" -m numclip.cli.main calibrate "$out" --data $(data "$2" "$3") --every-set --out "$out"
    case "$2" in
      age-open)
        # shellcheck disable=SC2046
        "$PYTHON" -m numclip.cli.main quantize "$out" --data $(data "$2" "$3") --out "$RUNS/$2/$2.int8.onnx" --widen ;;
    esac
    for one in $(data all "$3"); do "$PYTHON" -m numclip.cli.main evaluate "$out" --data "$one" --split test; done
    ;;
  *)
    sed -n '2,9p' "$0" >&2
    exit 2
    ;;
esac
