"""``kill -9`` at random moments of a comparison, then the same command: nothing is lost, nothing runs twice."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_at_random.py"
SMALL = ["digits", "--head=softmax", "--head=cosine_ls", "--seeds=1", "--train-limit=300"]
# Pictures and strange images take seconds a run and are not what is at stake.
SMALL += ["--no-report", "--ood=none"]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found in /proc")
def test_three_kills_change_nothing(capsys):
    specification = importlib.util.spec_from_file_location("kill_at_random", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    code = script.main(["3", "--seed=1", "--epochs=10", "--", *SMALL, "--workers=1", "--ema-decay=0.9"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert shown.count("kill ") == 3
    assert "PASSED: 3 kills" in shown
