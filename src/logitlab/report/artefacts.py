"""What the trials left in their folders, head by head, for the page; whatever is missing is said in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlab.config.errors import RecordError
from logitlab.config.names import printable
from logitlab.records import Store, read_arrays, read_outputs

from .rows import HeadRecords, Record, group_by_head

if TYPE_CHECKING:
    import numpy

#: OOD measures of a record and their headings; higher is better, all are measured with known images as positives.
SCORES = ("max_logit", "feature_norm")


@dataclass(frozen=True)
class SeedArtefacts:
    """One finished trial.

    Attributes:
        record: its record.
        seed: its seed.
        class_names: as the model knows them; empty where that cannot be read.
        outputs: arrays of ``outputs.npz``; None where they cannot be read.
        missing: why they cannot, in one sentence.
        strange: name of an OOD set → its scores, ``max_logit`` and ``feature_norm``.
        measured: names of all OOD sets that it was measured on, in this call or an earlier one.
    """

    record: Record
    seed: int
    class_names: tuple[str, ...]
    outputs: Mapping[str, numpy.ndarray] | None
    missing: str
    strange: Mapping[str, Mapping[str, numpy.ndarray]]
    measured: tuple[str, ...]


@dataclass(frozen=True)
class HeadArtefacts:
    """One row of the table, with what its trials left.

    Attributes:
        index: place in the table, which gives the head its colour.
        head: label and measures.
        seeds: the finished trials.
    """

    index: int
    head: HeadRecords
    seeds: tuple[SeedArtefacts, ...]

    @property
    def label(self) -> str:
        """The head as the table names it."""
        return self.head.label

    @property
    def link(self) -> str:
        """How logits become probabilities; ``"none"`` where they never do."""
        return str(self.seeds[0].record["result"].get("link", "softmax")) if self.seeds else "softmax"

    @property
    def readable(self) -> list[SeedArtefacts]:
        """The finished trials whose outputs could be read."""
        return [seed for seed in self.seeds if seed.outputs is not None]

    @property
    def excuse(self) -> str:
        """Why there is no picture of the outputs."""
        if not self.seeds:
            return "No trial of this head has finished."
        return "No outputs of this head could be read: the top of the page says why."

    def pooled(self, name: str) -> numpy.ndarray:
        """Return one array of all readable seeds, end to end; empty where there is none."""
        import numpy

        found = [seed.outputs[name] for seed in self.seeds if seed.outputs is not None]
        return numpy.concatenate(found) if found else numpy.empty(0)


def gather(records: Iterable[Record], root: Path) -> list[HeadArtefacts]:
    """Read what the trials of ``records`` left below ``root``.

    Args:
        records: finished and failed trials of one data set.
        root: the folder of the comparison.

    Raises:
        InputError: the records are of more than one data set.
    """
    every = list(records)
    by_identity = {str(record["identity"]): record for record in every}
    store = Store(root)
    return [
        HeadArtefacts(index, head, tuple(_seed(by_identity[trial.identity], store) for trial in head.finished))
        for index, head in enumerate(group_by_head(every))
    ]


def class_names(heads: Sequence[HeadArtefacts]) -> list[str]:
    """Return the names of the classes from the first model that has them, else their numbers."""
    most = 0
    for head in heads:
        for seed in head.seeds:
            if seed.outputs is not None and len(seed.outputs["labels"]):
                most = max(most, 1 + int(seed.outputs["labels"].max()), 1 + int(seed.outputs["predicted"].max()))
    for head in heads:
        for seed in head.seeds:
            if len(seed.class_names) >= max(most, 1):
                return list(seed.class_names)
    return [str(number) for number in range(most)]


def _seed(record: Record, store: Store) -> SeedArtefacts:
    folder = store.trial_folder(record["identity"])
    written = _json(folder / "model.json").get("class_names")
    names = tuple(printable(str(name)) for name in written) if isinstance(written, list) else ()
    outputs, missing = None, ""
    try:
        outputs = read_outputs(folder, classes=len(names) or None)
        # The largest array, which no picture needs.
        outputs.pop("logits", None)
    except RecordError as fault:
        missing = printable(str(fault))
    strange = _strange(record, folder / "ood")
    measured = tuple(str(_json(path).get("name")) for path in sorted((folder / "ood").glob("*.json")))
    return SeedArtefacts(record, int(record["config"]["seed"]), names, outputs, missing, strange, measured)


def _strange(record: Record, folder: Path) -> dict[str, Mapping[str, numpy.ndarray]]:
    """Read the scores of the OOD sets that the record speaks of; sets measured for another call stay out."""
    asked = record.get("ood") or {}
    found: dict[str, Mapping[str, numpy.ndarray]] = {}
    for path in sorted(folder.glob("*.json")) if asked and folder.is_dir() else ():
        name = _json(path).get("name")
        if name in asked and name not in found:
            try:
                scores = read_arrays(path.with_suffix(".npz"))
            except RecordError:
                continue
            if all(score in scores and scores[score].ndim == 1 and scores[score].dtype.kind == "f" for score in SCORES):
                found[str(name)] = scores
    return {name: found[name] for name in asked if name in found}


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
