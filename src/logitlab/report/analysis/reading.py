"""What an analysis measured, read for the page: whatever is missing or of another form is simply not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitlab.records.analysis import Analysis

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

Entry = Mapping[str, Any]
#: Name of a measure, and how it was measured.
Convention = tuple[str, str]

#: The largest cosine or logit: the confidence that every head has.
MAIN_SCORE = "max_logit"


@dataclass(frozen=True)
class Model:
    """One model of the page.

    Attributes:
        index: its place, which gives it its colour, dash and marker.
        label: what it is called.
        head: its head.
        kappa: what it scales by; None for a head without κ.
    """

    index: int
    label: str
    head: str
    kappa: float | None


class Reading:
    """The measures of an analysis, model by model.

    Args:
        analysis: what was measured.
        places: label of a model → its place in a page that gave it one already; None for the order of the analysis.
    """

    def __init__(self, analysis: Analysis, places: Mapping[str, int] | None = None) -> None:
        self.analysis = analysis
        self.models = tuple(
            Model(places[model.label] if places else place, model.label, model.head, model.kappa)
            for place, model in enumerate(analysis.models)
        )
        self.places = {model.label: model.index for model in self.models}
        self.class_names = analysis.data.class_names

    def measured(self, measure: str, *keys: str) -> list[tuple[Model, Entry]]:
        """Return the models that have a measure with all these keys, and what it says of each.

        Args:
            measure: a key of ``Analysis.measures``.
            keys: of its entry; one that is empty counts as missing.
        """
        entries = self.analysis.measures.get(measure) or {}
        return [
            (model, entry)
            for model in self.models
            if (entry := entries.get(model.label)) and all(entry.get(key) for key in keys)
        ]

    def number(self, model: Model, measure: str, *path: str) -> float | None:
        """Return one number, or None where it is missing or undefined.

        Args:
            model: of the page.
            measure: a key of ``Analysis.measures``.
            path: keys from its entry down to the number.
        """
        found: Any = (self.analysis.measures.get(measure) or {}).get(model.label)
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return number(found)

    def conventions(self, *measures: str) -> tuple[Convention, ...]:
        """Return how these were measured, every convention once, each with the name of its measure."""
        found = [
            (spoken(measure), str(entry["convention"]) + _where(entry))
            for measure in measures
            for entry in (self.analysis.measures.get(measure) or {}).values()
            if entry.get("convention")
        ]
        return tuple(dict.fromkeys(found))

    def warnings(self) -> list[tuple[str, str, str]]:
        """Return measure, label and sentence of every warning."""
        return [
            (measure, label, str(warning))
            for measure, entries in self.analysis.measures.items()
            for label, entry in entries.items()
            for warning in entry.get("warnings") or ()
        ]

    def misclassification(self) -> list[tuple[Model, Mapping[str, Entry]]]:
        """Return the measures of every confidence score, for the models that have them."""
        return [(model, entry["scores"]) for model, entry in self.measured("misclassification", "scores")]

    def strange(self) -> list[tuple[str, list[tuple[Model, Mapping[str, Entry]]]]]:
        """Return the sets of strange images, each with the measures of every score of every model."""
        ood = self.analysis.ood
        names = dict.fromkeys(name for model in self.models for name in ood.get(model.label, {}))
        return [
            (name, [(model, scores) for model in self.models if (scores := ood.get(model.label, {}).get(name))])
            for name in names
        ]

    def ood_mean(self, model: Model, key: str, score: str = MAIN_SCORE) -> float | None:
        """Return a measure of a score, mean over the sets of strange images; None where one of them lacks it."""
        found = [number(scores.get(score, {}).get(key)) for scores in self.analysis.ood.get(model.label, {}).values()]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known and len(known) == len(found) else None


def _where(entry: Entry) -> str:
    """Say which part of the data a measure was taken on, and on how many images."""
    parts = [str(entry["split"])] if entry.get("split") else []
    parts += [f"n = {entry['n']:,}"] if isinstance(entry.get("n"), int) else []
    return f" ({', '.join(parts)})" if parts else ""


def number(value: Any) -> float | None:
    """Return a finite number as float, and None for all else."""
    import math

    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def numbers(values: Any) -> NDArray[numpy.float64]:
    """Return a list, or a list of lists, as an array with NaN for None.

    >>> numbers([1, None]).tolist()
    [1.0, nan]
    """
    import numpy

    try:
        return numpy.array(values, dtype=numpy.float64)
    except (TypeError, ValueError):
        return numpy.empty(0)


def alike(entry: Entry, *keys: str) -> tuple[NDArray[numpy.float64], ...] | None:
    """Return arrays of one length, or None where they are not.

    Args:
        entry: of a model.
        keys: of the arrays.
    """
    found = tuple(numbers(entry.get(key) or ()) for key in keys)
    return found if len(found[0]) and all(each.shape == found[0].shape for each in found) else None


def curves(entry: Entry) -> Iterator[tuple[str, Entry]]:
    """Return name and curve of each confidence score of an entry."""
    held = entry.get("scores") or entry
    for name, curve in held.items():
        if isinstance(curve, Mapping) and name != "details":
            yield name, curve


def spoken(score: str) -> str:
    """Write the name of a score or a measure as words.

    >>> spoken("max_logit"), spoken("ap"), spoken("norm_mahalanobis")
    ('max logit', 'AP', 'norm with Mahalanobis')
    """
    known = {
        "ap": "AP",
        "auroc": "AUROC",
        "fpr95": "FPR@95",
        "base_rate": "base rate",
        "mahalanobis": "Mahalanobis",
        "norm_mahalanobis": "norm with Mahalanobis",
        "kappa_star": "κ*",
        "projection_residual": "projection residual E",
        "tsne": "t-SNE",
        "plane": "features in their plane",
        "loss_by_cosine": "loss by the cosine to the own class",
        "sparse_softmax": "softmax at the largest κ*",
        "separation": "R²",
        "separation_by_layer": "R² by layer",
        "hardness": "angular visual hardness",
        "cka": "CKA",
    }
    return known.get(score, score.replace("_", " "))


def conventions_of(name: str, parts: Sequence[Entry]) -> tuple[Convention, ...]:
    """Return how measures between models were measured, every convention once.

    Args:
        name: of the measure.
        parts: what the file holds of it.
    """
    return tuple(dict.fromkeys((name, str(each["convention"])) for each in parts if each.get("convention")))


def ordered_scores(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every score that some model has, in the order of the file."""
    return list(dict.fromkeys(score for scores in found for score in scores))
