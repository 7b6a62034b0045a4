"""What the tests of presets share: one folder of trials."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One folder for all presets, and for all processes that test: a trial that presets share is trained once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "presets-at-tiny"
    folder.mkdir(exist_ok=True)
    return folder
