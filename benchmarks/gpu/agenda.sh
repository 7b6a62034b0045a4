#!/usr/bin/env bash
# All that only a GPU can show, within ten minutes: bash benchmarks/gpu/agenda.sh FOLDER
# Needs torch, pytest and the packages of the extra `lab`; nothing is installed and nothing is downloaded.
# Each step writes FOLDER/STEP.txt; a step that fails does not stop the others, and makes the exit code 1.
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:?Give a folder for the results.}
mkdir -p "$folder"
export PYTHONPATH=src PYTHONDONTWRITEBYTECODE=1
failed=0

step() {
  local name=$1
  shift
  echo "== $name ($SECONDS s)"
  timeout 240 "$@" >"$folder/$name.txt" 2>&1 || { failed=1; echo "$name failed: $(tail -n 1 "$folder/$name.txt")"; }
}

# The suite's own options ask for pytest-xdist.
# The suite bounds its tests by pytest-timeout, which need not be there.
tests=(python -m pytest -q -o addopts= --import-mode=importlib --strict-markers -p no:cacheprovider)
tests+=(-W ignore::pytest.PytestConfigWarning)

step versions python -c "import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())"
# Heads move to the GPU and back, give what they give on the CPU, and never wait for it.
step conformance "${tests[@]}" tests/testing/test_registry_conformance.py
# The fast searches and the fused step, forced on the GPU, give what the plain ones give; and what they cost there.
step search_and_step python benchmarks/gpu/search_and_step.py
# One comparison on the GPU, killed by nobody; resumed by the second call, which must train nothing.
step compare python -m logitlab compare digits --device cuda --epochs 5 --seeds 2 --out "$folder/runs"
step resume python -m logitlab compare digits --device cuda --epochs 5 --seeds 2 --out "$folder/runs"
# Two processes on one GPU share it through gloo only; NCCL asks for one GPU each.
if [[ $(python -c "import torch; print(torch.cuda.device_count())") -gt 1 ]]; then
  step processes python -m torch.distributed.run --standalone --nproc-per-node 2 -m logitlab train digits \
    --head cosine_ls --epochs 3 --out "$folder/processes"
fi
rm -rf "$folder/runs" "$folder/processes"
exit $failed
