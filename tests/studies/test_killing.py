"""``kill -9`` at random moments of a comparison, then the same command: nothing is lost, nothing runs twice."""

import importlib.util
import sys
from functools import partial
from pathlib import Path

import pytest
from preloaded import Python, run_python

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill_at_random.py"
SMALL = ["digits", "--head=softmax", "--head=cosine_ls", "--seeds=1", "--train-limit=300"]
# Pictures and strange images take seconds a run and are not what is at stake.
SMALL += ["--no-report", "--ood=none"]

# Starting torch for seconds, runner and worker, would catch most of the kills.
RUNNER = """
import sys
from pathlib import Path
from preloaded import ForkedWorkers
from logitlab.cli.main import main
from logitlab.studies.executors import process as workers
workers.multiprocessing = ForkedWorkers(Path(sys.argv.pop(1)))
sys.exit(main())
"""


def start(diary, options, out):
    return Python("-c", RUNNER, diary, "compare", *options, "--out", out)


def workers(diary, runner):
    """Those that have not ended."""
    found = [int(path.name.partition(".")[2]) for path in diary.glob(f"{runner}.*")]
    return [worker for worker in found if Path("/proc", str(worker)).exists()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="workers are found in /proc")
def test_three_kills_change_nothing(capsys, tmp_path, monkeypatch):
    specification = importlib.util.spec_from_file_location("kill_at_random", SCRIPT)
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    # The undisturbed comparison tells how long to wait: it shall not start the server.
    run_python("-c", "")
    monkeypatch.setattr(script, "start", partial(start, tmp_path))
    monkeypatch.setattr(script, "children", partial(workers, tmp_path))
    code = script.main(["3", "--seed=1", "--epochs=10", "--", *SMALL, "--workers=1", "--ema-decay=0.9"])
    shown = capsys.readouterr().out
    assert code == 0, shown
    assert shown.count("kill ") == 3
    assert "PASSED: 3 kills" in shown
