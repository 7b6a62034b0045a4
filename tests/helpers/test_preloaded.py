"""A fork of the server behaves as a fresh Python does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from preloaded import Python, run_python

PROGRAM = """
import atexit, multiprocessing, os, sys
if __name__ == "__main__":
    atexit.register(print, "the end")
    print(sys.argv[1:], os.getcwd(), os.environ.get("WORD"), multiprocessing.get_start_method())
    print(multiprocessing.parent_process(), "torch" in sys.modules, file=sys.stderr)
    sys.exit(eval(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("form", "code", "error"),
    [
        ("-c", "None", ""),
        ("-m", "0", ""),
        ("script", "7", ""),
        ("-c", "'words'", "words"),
        ("-c", "1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_it_answers_as_python_does(tmp_path: Path, form: str, code: str, error: str) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    start = {"-c": ["-c", PROGRAM], "-m": ["-m", "program"], "script": [str(tmp_path / "program.py")]}[form]
    environment = {**os.environ, "WORD": "ä", "PYTHONIOENCODING": "utf-8"}
    found = run_python(*start, code, "b", env=environment, cwd=tmp_path)
    expected = subprocess.run(
        [sys.executable, *start, code, "b"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (found.args, found.returncode, found.stdout) == (expected.args, expected.returncode, expected.stdout)
    # But it has imported torch already.
    first, *lines = found.stderr.splitlines()
    assert first == "None True"
    assert expected.stderr.splitlines()[0] == "None False"
    assert lines[-1:] == expected.stderr.splitlines()[1:][-1:] == ([error] if error else [])


def test_signals_and_time_end_it() -> None:
    assert run_python("-c", "import os; os.kill(os.getpid(), 9)").returncode == -signal.SIGKILL
    with Python("-c", "import time; time.sleep(60)") as process:
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == process.poll() == process.returncode == -signal.SIGKILL
    with pytest.raises(subprocess.TimeoutExpired):
        run_python("-c", "import time; time.sleep(60)", timeout=0.1)
