"""The out-of-distribution sets of a comparison: checked with its arguments, gathered into its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config.errors import RecordError
from ..config.specification import Specification
from ..config.trial import TrialConfig
from ..records import OodSource, Store, distinct_sources, has_ood, read_ood
from .components import Shape
from .faults import Faults

#: What ``digits`` are compared with unless told otherwise; both are embedded.
DIGITS_OOD = ("patches", "noise")

#: On the command line it switches the default off.
NONE = "none"

# Sets are looked at even where the data cannot be loaded, so that all faults are told at once.
_STAND_IN = Shape(channels=1, image_size=8, num_classes=2)


def choose_ood(ood: Sequence[str] | str | None, data: str) -> tuple[str, ...]:
    """Return the names of the sets: the user's, or the default of ``digits``.

    >>> choose_ood(None, "digits"), choose_ood(["none"], "digits"), choose_ood(None, "mnist")
    (('patches', 'noise'), (), ())
    """
    if ood is None:
        return DIGITS_OOD if data.lower() == "digits" else ()
    names = (ood,) if isinstance(ood, str) else tuple(map(str, ood))
    return () if names == (NONE,) else names


def read_ood_sets(
    names: Sequence[str], shape: Shape | None, fingerprint: str | None, data_root: str | None, faults: Faults
) -> tuple[OodSource, ...]:
    """Load every set once, to see that it loads and what it is.

    Args:
        names: as ``logitlab.data.load_ood`` takes them; the same set twice counts once.
        shape: of the data; None where it could not be loaded.
        fingerprint: of the data.
        data_root: the folder that holds data sets.
        faults: receives what is wrong.
    """
    from ..data import load_ood

    form = shape or _STAND_IN
    found: list[OodSource] = []
    for name in names:
        if name == NONE:
            faults.add(f"The OOD set '{NONE}' stands for no set; leave the others out, or write ./{NONE} for a folder.")
            continue
        with faults:
            images = load_ood(name, channels=form.channels, image_size=form.image_size, root=data_root)
            if images.fingerprint == fingerprint:
                faults.add(f"The OOD set '{name}' is the data set itself; give images of another kind.")
                continue
            found.append(OodSource(name, images.name, images.fingerprint))
    return distinct_sources(found)


def missing_ood(store: Store, trial: TrialConfig, sources: Sequence[OodSource]) -> tuple[OodSource, ...]:
    """Return the sets that a finished trial has not been measured on."""
    folder = store.trial_folder(trial.identity)
    return tuple(source for source in sources if not has_ood(folder, source.fingerprint))


def attach_ood(store: Store, record: dict[str, Any], sources: Sequence[OodSource]) -> dict[str, Any]:
    """Add ``"ood"`` to the record of a finished trial: title of a set → its measures."""
    if "error" in record or not sources:
        return record
    folder = store.trial_folder(record["identity"])
    found = {}
    for source in sources:
        try:
            found[source.title] = read_ood(folder, source.fingerprint)["measures"]
        except RecordError:
            continue
    return {**record, "ood": found}


def tell_ood(store: Store, trial: TrialConfig, wanted: Sequence[OodSource]) -> str:
    """Say in one sentence that a finished trial was measured on more sets, or why not."""
    head = Specification(trial.head.name, trial.head.parameters)
    missing = missing_ood(store, trial, wanted)
    names = ", ".join(source.title for source in missing or wanted)
    if not missing:
        return f"{head}, seed {trial.seed}: measured on {names}."
    failure = store.failure(trial.identity)
    reason = f": {' '.join(str(failure['error'].get('message')).split())}" if failure else "."
    return f"{head}, seed {trial.seed}: not measured on {names}{reason}"
