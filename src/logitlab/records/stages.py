"""What a stage found on the model of a finished trial: ``stages/<identity>.json`` in the trial's folder. No torch.

A stage is no part of a trial's identity: it may be added to a study that is done.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from ..config.errors import RecordError
from ..config.validation import Configuration
from .files import write_json_atomic
from .reading import read_form
from .schema import result_digest
from .study import StageSource

STAGE_VERSION: Final = 1

#: In a trial's folder, what holds the results of its stages.
STAGES_FOLDER: Final = "stages"

#: The one key of a result that may hold words.
CONVENTION: Final = "convention"


class StageRecord(Configuration):
    """What a stage leaves behind.

    Attributes:
        format_version: version of this form.
        name: of the stage.
        identity: 16 hexadecimal digits; see :class:`~logitlab.records.study.StageSource`.
        options: as the stage took them.
        result: nested mappings of finite numbers, and None where a number is undefined; under the key
            ``"convention"`` there may be words.
        result_sha256: :func:`~logitlab.records.result_digest` of ``result``.
        provenance: what may differ when the same stage runs again: time, versions, device, warnings.
    """

    format_version: Literal[1] = STAGE_VERSION
    name: str
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    options: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any]
    result_sha256: str
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> StageRecord:
        if self.result_sha256 != result_digest(self.result):
            raise ValueError("its result does not match its checksum")
        return self


def write_stage(
    folder: Path, source: StageSource, result: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
) -> None:
    """Write what a stage found into the folder of its trial, whole or not at all; its presence means done.

    Args:
        folder: of the trial.
        source: the stage.
        result: see :class:`StageRecord`.
        provenance: likewise.

    Raises:
        RecordError: the result is of another form, or holds NaN or infinity.
        OSError: the file system refuses.
    """
    fault = result_fault(result)
    if fault:
        raise RecordError(f"The result of the stage '{source.name}' cannot be recorded: {fault}")
    record = StageRecord(
        name=source.name,
        identity=source.identity,
        options=source.options,
        result=dict(result),
        result_sha256=result_digest(dict(result)),
        provenance=dict(provenance or {}),
    )
    write_json_atomic(stage_path(folder, source.identity), record.model_dump(mode="json"))


def read_stage(folder: Path, identity: str) -> dict[str, Any]:
    """Read what a stage found: the keys of :class:`StageRecord`.

    Args:
        folder: of the trial.
        identity: of the stage.

    Raises:
        RecordError: the stage has not run, or its file is damaged or of a newer version.
    """
    path = stage_path(folder, identity)
    record = read_form(path, StageRecord, version=STAGE_VERSION)
    if record.identity != identity:
        raise RecordError(f"'{path}' belongs to the stage {record.identity}, not to {identity}.")
    return record.model_dump()


def has_stage(folder: Path, identity: str) -> bool:
    """Say whether a whole, unchanged result of the stage is there."""
    try:
        read_stage(folder, identity)
    except RecordError:
        return False
    return True


def forget_stages(folder: Path) -> None:
    """Remove what stages found on an earlier model of this trial, before it is trained again.

    Only for the process that holds the trial's claim.
    """
    shutil.rmtree(Path(folder) / STAGES_FOLDER, ignore_errors=True)


def stage_path(folder: Path, identity: str) -> Path:
    """Return where the result of a stage stands in the folder of a trial."""
    return Path(folder) / STAGES_FOLDER / f"{identity}.json"


def result_fault(result: Any, place: str = "") -> str | None:
    """Say in a sentence why a result cannot be recorded; None when it can.

    >>> result_fault({"gtsrb": {"accuracy": 0.5, "convention": "top-1"}, "angle": None}) is None
    True
    >>> result_fault({"accuracy": "high"})
    "Expected a finite number, None or a mapping at 'accuracy'. Got 'high'."
    """
    if isinstance(result, Mapping):
        for key, value in result.items():
            if not isinstance(key, str) or not key:
                return f"Expected words as keys of the result. Got {key!r}."
            if key == CONVENTION and isinstance(value, str):
                continue
            fault = result_fault(value, f"{place}.{key}" if place else key)
            if fault:
                return fault
        return None
    if not place:
        return f"Expected a mapping of names to numbers. Got {type(result).__name__}."
    if result is None:
        return None
    if isinstance(result, bool) or not isinstance(result, (int, float)) or not math.isfinite(result):
        return f"Expected a finite number, None or a mapping at '{place}'. Got {result!r}."
    return None
