"""Where a checkpoint lies, and what stands beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from logitlab.config.errors import RecordError
from logitlab.models.checkpoint import DESCRIPTION_FILE, WEIGHTS_FILE
from logitlab.records import Record


def find_checkpoint(path: str | Path) -> Path:
    """Return the folder of a checkpoint.

    Args:
        path: the folder with ``model.safetensors`` and ``model.json``, for instance a trial's; or one of the two; or
            the folder of a study in which one trial alone left a checkpoint, as ``logitlab train --out`` makes it.

    Raises:
        RecordError: there is no checkpoint; where the folder of a study with several is given, one of them is named.
    """
    folder = Path(path)
    try:
        if folder.name in (WEIGHTS_FILE, DESCRIPTION_FILE) and folder.is_file():
            return folder.parent
        if (folder / DESCRIPTION_FILE).exists() or (folder / WEIGHTS_FILE).exists():
            return folder
        trials = sorted(found.parent for found in folder.glob(f"trials/*/{DESCRIPTION_FILE}"))
        exists = folder.exists()
    except OSError as fault:
        raise RecordError(f"Cannot read '{folder}': {fault.strerror or fault}. Check who may read it.") from None
    if len(trials) == 1:
        return trials[0]
    if trials:
        raise RecordError(
            f"'{folder}' is the folder of a study. Give one of its trials: '{trials[0]}' or one of "
            f"{len(trials) - 1} more in '{folder / 'trials'}'."
        )
    found = "It holds neither." if exists else "There is no such folder."
    raise RecordError(
        f"Expected a checkpoint in '{folder}': a folder with {WEIGHTS_FILE} and {DESCRIPTION_FILE}. {found} "
        "'logitlab train' makes one."
    )


def record_beside(folder: Path) -> dict[str, Any] | None:
    """Return the record of the trial that made a checkpoint, or None where there is none that can be trusted.

    Unlike a store's records it may have been copied to a folder of another name with its model.

    Args:
        folder: of the checkpoint.
    """
    try:
        values = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        return Record.model_validate(values).model_dump()
    except (OSError, ValueError, ValidationError):
        return None
