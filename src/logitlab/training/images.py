"""The images of a trial, loaded once a process and looked at: they must be those that it was planned for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from logitlab.config.errors import DataError
from logitlab.data import DataSet
from logitlab.data.prepared import load_prepared


@lru_cache(maxsize=1)
def load_planned(name: str, image_size: int | None, root: str | Path | None, fingerprint: str) -> DataSet:
    """Keep the last data set: a worker runs many trials of one study.

    The fingerprint makes a folder that has changed since the last study be read again.
    """
    data = load_prepared(name, image_size=image_size, root=root, fingerprint=fingerprint)
    if data.fingerprint != fingerprint:
        raise DataError(
            f"The images of '{name}' are not those that the trial was planned for: their fingerprint is "
            f"{data.fingerprint[:12]}, not {fingerprint[:12]}. Plan the study again."
        )
    return data
