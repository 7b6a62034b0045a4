#!/usr/bin/env bash
# All that only a GPU can show, in less than ten minutes: bash benchmarks/gpu/agenda.sh FOLDER [STEP...]
# benchmarks/gpu/README.md says what each step is for. Nothing is installed and nothing is downloaded.
# What matters most comes first. Each step writes FOLDER/STEP.txt as it goes, and FOLDER/agenda.txt gathers them; what was
# measured also goes to benchmarks/results/gpu_STEP.txt. A step that fails does not stop the others, and makes the exit
# code 1. Without a GPU nothing is run and nothing is written.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?Give a folder for the results.}
shift
wanted=" $* "
python=${PYTHON:-python}
# Of all steps together, so that a call of ten minutes ends by itself.
limit=${AGENDA_SECONDS:-570}
results=${AGENDA_RESULTS:-benchmarks/results}
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
failed=0
known=" "
gpus=$("$python" -c "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)") || exit 1

# step NAME SECONDS COMMAND...: run one step, within its own time and what is left of the whole.
step() {
  local name=$1 seconds=$2 code=0
  shift 2
  known+="$name "
  [[ $wanted == "  " || $wanted == *" $name "* ]] || return 0
  if ((gpus == 0)); then
    echo "$name: not run: no GPU"
    return 0
  fi
  local left=$((limit - SECONDS))
  # A step cannot show anything in the last seconds.
  if ((left * 50 < limit)); then
    echo "$name: not run: the time is up; run it alone: agenda.sh FOLDER $name"
    return 0
  fi
  mkdir -p "$folder"
  echo "== $name ($SECONDS s)"
  timeout -k 10 $((seconds < left ? seconds : left)) "$@" >"$folder/$name.txt" 2>&1 || code=$?
  if ((code)); then
    failed=1
    echo "(ended with exit code $code)" >>"$folder/$name.txt"
    echo "$name FAILED: $(tail -n 2 "$folder/$name.txt" | tr '\n' ' ')"
  fi
  { echo "== $name"; cat "$folder/$name.txt"; echo; } >>"$folder/agenda.txt"
}

# measured NAME SECONDS COMMAND...: a step whose text is a result.
measured() {
  step "$@"
  if ((gpus)) && [[ -f $folder/$1.txt ]] && [[ $wanted == "  " || $wanted == *" $1 "* ]]; then
    cp "$folder/$1.txt" "$results/gpu_$1.txt"
  fi
}

module() { echo "$python -m benchmarks.gpu.$1"; }

# The suite's own options ask for pytest-xdist, and it bounds its tests by pytest-timeout: neither need be there.
tests=("$python" -m pytest -q -o addopts= --import-mode=importlib --strict-markers -p no:cacheprovider)
tests+=(-W ignore::pytest.PytestConfigWarning)

step versions 40 "$python" -c "import torch; from benchmarks.gpu.machine import *; print(describe(torch.device('cuda')))"
# Right before fast: the Triton kernels beside the plain ones, the fused heads beside the plain ones, no waiting, graphs.
measured kernels 70 $(module kernels_on_device)
measured heads 100 $(module heads_on_device)
# The step beside eager PyTorch and torch's own fused loss; then replayed from graphs; then beside the packages of others.
measured table 170 $(module step_table) --seconds 130 --only ours --only eager --only torch --only plain
measured table_graph 60 $(module step_table) --seconds 35 --graph --dtype bfloat16 --only ours
measured table_peers 90 $(module step_table) --seconds 60 --dtype bfloat16 --only ours --only peers --only compile
# The head of split classes, and a whole network.
measured sharded 80 $(module sharded_step) --seconds 40
measured resnet50 60 $(module resnet50_step) --seconds 35
# The fast searches and the fused step as heads choose them, and what they cost.
measured search_and_step 40 $(module search_and_step)
# Heads move to the GPU and back, and give what they give on the CPU.
step conformance 240 "${tests[@]}" tests/testing/test_registry_conformance.py
# One comparison on the GPU, killed by nobody; resumed by the second call, which must train nothing.
step compare 120 "$python" -m logitlab compare digits --device cuda --epochs 5 --seeds 2 --out "$folder/runs"
step resume 60 "$python" -m logitlab compare digits --device cuda --epochs 5 --seeds 2 --out "$folder/runs"
# A study: rows that wait for others, stages, one trial at a time on the GPU; the second call must train nothing.
step study 150 "$python" -m logitlab study run t-table-2 --scale tiny --device cuda --out "$folder/studies"
step study_again 60 "$python" -m logitlab study run t-table-2 --scale tiny --device cuda --out "$folder/studies"
# All models of a study side by side; and TS Table 11: what a step and the search for κ cost, by the stage 'timing'.
step study_analysis 120 "$python" -m logitlab study run w-figure-3 --scale tiny --device cuda --out "$folder/studies"
measured timing 120 "$python" -m logitlab study run ts-table-11 --scale tiny --device cuda --out "$folder/studies"
# Two processes on one GPU share it through gloo only; NCCL asks for one GPU each.
if ((gpus == 1)); then
  [[ $wanted != "  " && $wanted != *" processes "* ]] || echo "processes: not run: one GPU only"
  [[ $wanted != "  " && $wanted != *" study_torchrun "* ]] || echo "study_torchrun: not run: one GPU only"
  known+="processes study_torchrun "
else
  step study_torchrun 150 "$python" -m logitlab study run t-table-2 --scale tiny --device cuda \
    --processes-per-trial 2 --out "$folder/torchrun"
  step processes 120 "$python" -m torch.distributed.run --standalone --nproc-per-node 2 -m logitlab train digits \
    --head cosine_ls --epochs 3 --out "$folder/processes"
fi
((gpus == 0)) || rm -rf "$folder/runs" "$folder/processes" "$folder/studies" "$folder/torchrun"
for name in $wanted; do
  if [[ $known != *" $name "* ]]; then
    echo "There is no step $name. There are:$known"
    failed=1
  fi
done
exit $failed
