"""What a stage reads at its start: its options, and the data sets that it was planned for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from logitlab.config.errors import DataError
from logitlab.config.validation import Configuration, validate
from logitlab.data import DataSet, content_decides
from logitlab.evaluation.subjects import shared_data
from logitlab.records.study import StageSource

from .context import StageContext
from .planning import source_identity

Form = TypeVar("Form", bound=Configuration)


def validated(form: type[Form], source: StageSource) -> Form:
    """Return the options of a planned stage."""
    return validate(form, source.options, f"stages.{source.name}")


def planned_sets(
    context: StageContext,
    source: StageSource,
    names: tuple[str, ...],
    side: int,
    load: Callable[[str, int, str | None], DataSet] = shared_data,
) -> list[DataSet]:
    """Load the data sets of a stage at the size of its model.

    ``load`` takes a name, a side and the folder that holds data sets.

    That they are those that the stage was planned for is checked where a fingerprint is that of the images as they are
    stored; folders and sets of torchvision may have another one at another size.

    Raises:
        DataError: a set cannot be read, or has changed since.
    """
    sets = [load(name, side, context.data_root) for name in names]
    if all(map(content_decides, names)) and source_identity(source, sets) != source.identity:
        raise DataError(
            f"The images of {', '.join(repr(name) for name in names)}, or the code of its head, are not those that the "
            "study was planned for. Plan it again."
        )
    return sets
