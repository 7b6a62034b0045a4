"""Two runners of one study in one folder: no trial runs twice, and both end, also where rows wait for other rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from logitlab.records import Store
from logitlab.records.study import read_plan, study_folder

STUDY = """\
name: both
data: {name: digits, train_limit: 200}
backbone: mlp
training: {epochs: 1}
seeds: 4
heads:
  - softmax
  - {head: cosine_ls, label: LS}
  - {head: cosine, label: 2κ*, depends_on: {head.kappa: {of: LS, measure: validation.kappa_star, times: 2}}}
  - head: sigmoid
    search: {parameters: {training.learning_rate: [0.01, 0.1]}, seeds: 2, expansions: 1}
"""

# A diary says which trials were executed, and by whom.
RUNNER = """
import os, sys
from pathlib import Path
from logitlab.studies import run, run_study
from logitlab.training import execute

def noted(trial, root, **options):
    with Path(sys.argv[3]).open("a") as diary:
        diary.write(f"{trial.identity} {os.getpid()}\\n")
    execute(trial, root, **options)

run_study.trial_function = lambda tensorboard: noted
outcome = run(sys.argv[1], out=sys.argv[2], executor="serial", report=False)
sys.exit(bool(outcome.failed) or any(row.missing for row in outcome.results.rows))
"""


@pytest.mark.slow
def test_two_runners_share_a_study(tmp_path: Path) -> None:
    study, out, diary = tmp_path / "both.yaml", tmp_path / "out", tmp_path / "diary"
    study.write_text(STUDY, encoding="utf-8")
    command = [sys.executable, "-c", RUNNER, str(study), str(out), str(diary)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    runners = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        errors = [runner.communicate(timeout=300)[1].decode() for runner in runners]
    finally:
        for runner in runners:
            runner.kill()
    assert [runner.returncode for runner in runners] == [0, 0], errors
    lines = [line.split() for line in diary.read_text().splitlines()]
    assert Counter(identity for identity, _ in lines).most_common(1)[0][1] == 1
    assert len({pid for _, pid in lines}) == 2, "one of the runners found nothing to do"
    store = Store(out)
    planned = {trial.identity for trial in read_plan(study_folder(out, "both")).trials}
    assert planned == {identity for identity, _ in lines}
    assert all(store.is_done(identity) for identity in planned)
    assert not list(out.glob("trials/*/claim.*"))
