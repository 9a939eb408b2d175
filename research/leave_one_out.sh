#!/usr/bin/env bash
# Leave one data set out: how do errors and intervals do on faces from a source that the network (--model nano) has not seen?
#
#   research/leave_one_out.sh FACES WITHOUT_FAIRFACE    FACES: the folder with utkface.tar, aaf.tar, fairface.tar and their CSVs
#
# One shortened training for each set: one epoch on the other two. For UTKFace and All-Age-Faces it starts from age-open, which has
# seen FairFace alone. For FairFace it starts from WITHOUT_FAIRFACE, a checkpoint of the same network that has seen the other two
# alone. The intervals are fitted on the calibration splits of the sets learned, widened until they hold on
# each of them (calibrate --every-set). Then all three test splits are measured. Run again to resume.
set -euo pipefail
PYTHON=${PYTHON:-python} RUNS=${RUNS:-runs} THREADS=${THREADS:-0}
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# = 2 ] || { sed -n '2,10p' "$0" >&2; exit 2; }
faces=$1

for left_out in utkface aaf fairface; do
  out=$RUNS/without-$left_out start=$here/train/checkpoints/age-open.safetensors coverage=1.2857142857142858 data=()
  [ "$left_out" = fairface ] && start=$2 coverage=1
  for one in utkface aaf fairface; do
    [ "$one" = "$left_out" ] || data+=("$one:$faces/$one.tar")
  done
  if [ ! -f "$out/model.onnx" ]; then
    resume=(); [ -f "$out/last.pt" ] && resume=(--resume)
    "$PYTHON" -m numclip.cli.main train --model nano --data "${data[@]}" --start "$start" --coverage "$coverage" --epochs 1 --lr 5e-4 --augment light \
      --repeat 10-19:2 60-120:2 --amp bf16 --seed 81 --threads "$THREADS" --out "$out" "${resume[@]}"
    "$PYTHON" -m numclip.cli.main export "$out/best.safetensors" --out "$out/exported.onnx" --data "${data[@]}"
    "$PYTHON" -m numclip.cli.main calibrate "$out/exported.onnx" --data "${data[@]}" --every-set --out "$out/model.onnx"
  fi
  echo "# without $left_out"
  for one in utkface aaf fairface; do
    "$PYTHON" -m numclip.cli.main evaluate "$out/model.onnx" --data "$one:$faces/$one.tar" --split test --json "$out/$one.json" | sed -n 1,4p
  done
done
