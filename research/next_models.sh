#!/usr/bin/env bash
# The way of each model to come, in three commands. FACES is the folder of utkface.tar, aaf.tar, fairface.tar and their CSVs.
#
#   research/next_models.sh pack FACES                  faces found and cut once, into packed/, and start weights into starts/ (CPU)
#   research/next_models.sh train NAME                  age-open, age-base, age-small-more or age-nano-more (a GPU); again: it goes on
#   research/next_models.sh finish NAME FACES           export, intervals, INT8 of nano's size, and its figures (CPU)
#
# MOBILENET names the ImageNet MobileNetV2 .tflite, for age-open. packed/ and starts/ are all that the machine with the GPU needs beside
# the checkout. age-small-more comes before age-nano-more: put its best.safetensors into train/checkpoints/ first.
set -euo pipefail
PYTHON=${PYTHON:-python}
PACKED=${PACKED:-packed} STARTS=${STARTS:-starts} RUNS=${RUNS:-runs}

data() { # NAME FOLDER: what the model may learn from
  if [ "$1" = age-open ]; then echo "fairface:$2/fairface.tar"; else echo "utkface:$2/utkface.tar aaf:$2/aaf.tar fairface:$2/fairface.tar"; fi
}

starts() { # NAME: what its recipe starts from
  case "$1" in
    age-open) echo "$STARTS/nano.safetensors $STARTS/face-resnet.safetensors" ;;
    age-base | age-small-more) echo "$STARTS/base.safetensors" ;;
    age-nano-more) ;;
    *) echo "expected age-open, age-base, age-small-more or age-nano-more, got $1" >&2; return 2 ;;
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
      age-open | age-nano-more)
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
