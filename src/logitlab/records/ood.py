"""What a finished trial measured on images of another world: ``ood/<fingerprint>.json`` and ``.npz`` in its folder.

Such sets are no part of a trial's identity: they may be added to a study that is done.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, ValidationError

from ..config.errors import RecordError
from ..config.names import printable
from ..config.validation import Configuration
from .files import write_json_atomic
from .outputs import read_arrays, write_arrays

if TYPE_CHECKING:
    import numpy

OOD_FORMAT_VERSION: Final = 1

#: In a trial's folder, what holds the measures.
OOD_FOLDER: Final = "ood"

#: Keys of the measures: average precision and AUROC by either score, and what chance gives for the former.
OOD_MEASURES: Final = (
    "max_logit_ap",
    "max_logit_auroc",
    "feature_norm_ap",
    "feature_norm_auroc",
    "base_rate",
)

_SCORES: Final = ("max_logit", "feature_norm")


@dataclass(frozen=True)
class OodSource:
    """A set that the trials of a study are measured on.

    Attributes:
        name: as the user wrote it; ``logitlab.data.load_ood`` takes it.
        title: what tables call it.
        fingerprint: of its images, 64 hexadecimal digits.
    """

    name: str
    title: str
    fingerprint: str


def distinct_sources(sources: Iterable[OodSource]) -> tuple[OodSource, ...]:
    """Leave out what has the images of another set, and give those of one title their names as titles.

    >>> first = OodSource("x/test", "test", "0" * 64), OodSource("y/test", "test", "1" * 64)
    >>> [source.title for source in distinct_sources([*first, OodSource("x/test/", "test", "0" * 64)])]
    ['x/test', 'y/test']
    """
    found: dict[str, OodSource] = {}
    for source in sources:
        found.setdefault(source.fingerprint, source)
    titles = [source.title for source in found.values()]
    return tuple(
        source if titles.count(source.title) == 1 else replace(source, title=printable(source.name))
        for source in found.values()
    )


class OodRecord(Configuration):
    """What a trial measured on one set.

    Attributes:
        format_version: version of this form.
        name: of the set.
        fingerprint: of the set, 64 hexadecimal digits.
        images: how many the set has, M.
        measures: a number, or None where it is undefined, for each of ``OOD_MEASURES``.
    """

    format_version: Literal[1] = OOD_FORMAT_VERSION
    name: str
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$")
    images: int = Field(ge=1)
    measures: dict[str, float | None]


def write_ood(folder: Path, record: OodRecord, scores: Mapping[str, numpy.ndarray]) -> None:
    """Write what a trial measured on one set; the measures come last, and their presence means done.

    Args:
        folder: of the trial.
        record: the measures.
        scores: ``max_logit`` and ``feature_norm``, float32 ``[M]``.

    Raises:
        RecordError: a score is missing, or a number is not finite.
        OSError: the file system refuses.
    """
    path = ood_path(folder, record.fingerprint)
    missing = [name for name in _SCORES if name not in scores or len(scores[name]) != record.images]
    if missing:
        raise RecordError(f"Cannot write '{path}': expected {record.images} values of '{missing[0]}'.")
    write_arrays(path.with_suffix(".npz"), {name: scores[name] for name in _SCORES})
    write_json_atomic(path, record.model_dump())


def read_ood(folder: Path, fingerprint: str) -> dict[str, Any]:
    """Read the measures of a trial on one set: the keys of :class:`OodRecord`.

    Raises:
        RecordError: the set was not measured, or a file is damaged.
    """
    path = ood_path(folder, fingerprint)
    try:
        record = OodRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RecordError(f"There is no '{path}'.") from None
    except OSError as fault:
        raise RecordError(f"Cannot read '{path}': {fault.strerror or fault}.") from fault
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"'{path}' is damaged: {where + ': ' if where else ''}{first['msg']}.") from None
    except ValueError as fault:
        raise RecordError(f"Cannot read '{path}': it is not whole JSON ({fault}).") from fault
    if record.fingerprint != fingerprint:
        raise RecordError(f"'{path}' belongs to the set {record.fingerprint}, not to {fingerprint}.")
    if missing := [name for name in OOD_MEASURES if name not in record.measures]:
        raise RecordError(f"'{path}' is damaged: it lacks '{missing[0]}'.")
    if not path.with_suffix(".npz").is_file():
        raise RecordError(f"There is no '{path.with_suffix('.npz')}' beside '{path.name}'.")
    return record.model_dump()


def read_ood_scores(folder: Path, fingerprint: str) -> dict[str, numpy.ndarray]:
    """Read the scores of every image of a set: ``max_logit`` and ``feature_norm``, float32 ``[M]``.

    Raises:
        RecordError: the file is missing or damaged.
    """
    path = ood_path(folder, fingerprint).with_suffix(".npz")
    arrays = read_arrays(path)
    missing = [name for name in _SCORES if name not in arrays]
    if missing:
        raise RecordError(f"'{path}' is damaged: it lacks '{missing[0]}'.")
    return arrays


def has_ood(folder: Path, fingerprint: str) -> bool:
    """Say whether a whole record of the set is there."""
    try:
        read_ood(folder, fingerprint)
    except RecordError:
        return False
    return True


def ood_path(folder: Path, fingerprint: str) -> Path:
    """Return where the measures on a set stand in the folder of a trial."""
    return Path(folder) / OOD_FOLDER / f"{fingerprint[:16]}.json"
