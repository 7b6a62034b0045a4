"""What lies beside the record of a finished trial, and which study a failure after the training belongs to. No torch.

Studies share their trials: what one of them asks of a trained model, and does not get, is no failure of another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .ood import OodSource, has_ood, ood_path
from .stages import has_stage, stage_path
from .study import StageSource

#: Key of a failure's ``error``: the file, in the folder of the trial, that its attempt could not leave.
LACKS: Final = "lacks"


def files_beside(ood: Iterable[OodSource], stages: Iterable[StageSource]) -> tuple[str, ...]:
    """Return the files that a trial leaves beside its record, in the order in which they are made.

    Args:
        ood: sets that it is measured on.
        stages: what is done with its model.
    """
    sets = (ood_path(Path(), source.fingerprint) for source in ood)
    return tuple(path.as_posix() for path in (*sets, *(stage_path(Path(), stage.identity) for stage in stages)))


def first_lacking(folder: Path, ood: Iterable[OodSource], stages: Iterable[StageSource]) -> str | None:
    """Return the first of these files that is not there, whole: what has failed, for they are made in order.

    Args:
        folder: of the trial.
        ood: sets that it is to be measured on.
        stages: what is to be done with its model.
    """
    for source in ood:
        if not has_ood(folder, source.fingerprint):
            return files_beside((source,), ())[0]
    for stage in stages:
        if not has_stage(folder, stage.identity):
            return files_beside((), (stage,))[0]
    return None


def concerns(error: Mapping[str, Any], files: Collection[str]) -> bool:
    """Say whether a failure is one of a study that asks for these files beside the record.

    Args:
        error: of a :class:`~logitlab.records.Failure`.
        files: see :func:`files_beside`.

    >>> concerns({"lacks": "stages/ab.json"}, ["stages/cd.json"]), concerns({"kind": "TrialError"}, [])
    (False, True)
    """
    lacks = error.get(LACKS)
    return not isinstance(lacks, str) or lacks in files
