"""The arguments of an analysis: checkpoints, data sets and folder, looked at before the first pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from ..config.errors import ConfigurationError, DataError
from .components import Shape
from .faults import Faults
from .ood import NONE

if TYPE_CHECKING:
    from ..evaluation.subjects import Subject, Surroundings


def open_checkpoints(checkpoints: Sequence[str], around: Surroundings, faults: Faults) -> list[Subject]:
    """Open every checkpoint and see that it fits the data.

    Args:
        checkpoints: as the user named them.
        around: what the models share.
        faults: receives what is wrong.
    """
    from ..evaluation.checkpoint import check_fit
    from ..evaluation.subjects import open_subject
    from ..models.checkpoint import DESCRIPTION_FILE
    from ..serving import find_checkpoint

    if not checkpoints:
        faults.add("Name at least one checkpoint.")
    subjects = []
    seen: dict[Path, str] = {}
    for name in checkpoints:
        with faults:
            folder = find_checkpoint(name)
            if folder.resolve() in seen:
                faults.add(f"The checkpoint '{name}' is given twice; give each once.")
                continue
            seen[folder.resolve()] = name
            subjects.append(with_seed(open_subject(folder, around)))
    if not subjects:
        # The data may be at fault as well, at whatever size.
        with faults:
            _load(around.data, None, around.data_root)
    with suppress(OSError):
        if (Path(around.data) / DESCRIPTION_FILE).exists():
            faults.add(f"'{around.data}' is a checkpoint; the data set comes last.")
            return subjects
    for subject in subjects:
        with faults:
            check_fit(subject.description, subject.data(), subject.folder)
            images = subject.part(around.part)
            if not len(images):
                raise DataError(f"The {around.part} part of '{around.data}' has no images.")
    return subjects


def with_seed(subject: Subject) -> Subject:
    """Let the control start with the weights that the trial started with."""
    from ..training.seeds import derive_seed

    subject.control_seed = derive_seed(subject.seed or 0, "backbone")
    return subject


def check_sets(
    subjects: Sequence[Subject], sets: Sequence[str], probes: Sequence[str], root: str | None, faults: Faults
) -> None:
    """Load every other set once a size, to see that it loads.

    Args:
        subjects: the models that will look at them.
        sets: out-of-distribution sets.
        probes: data sets for linear probes.
        root: the folder that holds data sets.
        faults: receives what is wrong.
    """
    from ..data import load_ood

    shapes = {Shape(**subject.shape, num_classes=2) for subject in subjects} or {Shape(1, 8, 2)}
    for name in sets:
        if name == NONE:
            faults.add(f"The OOD set '{NONE}' stands for no set; leave it out, or write ./{NONE} for a folder.")
            continue
        for shape in sorted(shapes, key=lambda shape: shape.image_size):
            with faults:
                load_ood(name, channels=shape.channels, image_size=shape.image_size, root=root)
    for name in probes:
        for side in sorted({shape.image_size for shape in shapes}):
            with faults:
                _load(name, side, root)


def _load(name: str, side: int | None, root: str | None) -> None:
    from ..data import load_data

    load_data(name, image_size=side, root=root)


def check_folder(folder: Path) -> None:
    """See that the folder can be made and written to; nothing is left there, since other arguments may be faulty.

    Raises:
        ConfigurationError: it cannot.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A name of its own: two processes may look at one folder at once.
        with TemporaryFile(dir=folder):
            pass
    except OSError as fault:
        raise ConfigurationError(
            f"'out' must be a folder that can be written to. '{folder}': {fault.strerror or fault}; give another path."
        ) from None
    finally:
        for place in missing:
            # It is gone, or another process has put something into it.
            with suppress(OSError):
                place.rmdir()
