"""What all tests share: one thread, one seed, and the folder of real images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Inductor's pool of compiling processes is one more thing that can hang: compile in the test's own process. torch reads
# this when it is imported.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _no_ranks_are_left() -> Iterator[None]:
    yield
    # Where a test has used them: see tests/helpers/ranks.py.
    if "ranks" in sys.modules:
        sys.modules["ranks"].end_ranks()


@pytest.fixture
def real_data() -> Path:
    """The folder of real data sets: LOGITLAB_DATA, or ``shared/data`` beside the checkout."""
    folder = Path(os.environ.get("LOGITLAB_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"real images not found: neither LOGITLAB_DATA nor {folder.name} beside the checkout holds them")
    return folder
