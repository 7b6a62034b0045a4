"""What the analysis of a study says of each of its models in one number, for tables and claims. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from ..records.analysis import Analysis

#: Keys of these measures begin so.
ANALYSIS: Final = "analysis"

_AGREEMENT_KIND: Final = "same"
_ENSEMBLES_KIND: Final = "same_answer_of_ensembles"


def analysis_measures(analysis: Analysis, rows: Mapping[str, str]) -> dict[str, dict[str, float | None]]:
    """Return what the models of an analysis have in common with each other, model by model.

    ========================== ============================================================================
    ``agreement.same_row``     share of images on which a model answers as the other models of its row do,
                               a mean over those models (W Figure 1: one loss, other initialisations)
    ``agreement.other_rows``   the same with the models of other rows (W Figure 1: other losses)
    ``agreement.ensembles``    share of images on which the vote of its row's models is that of another row's, a
                               mean over the other rows (W Figure D.2); of the first model of a row alone
    ``ensembles.same_row``     accuracy of the vote of its row's models (W Figure D.3, diagonal); likewise
    ``ensembles.other_rows``   the same where half of the models are of another row, a mean over the other rows
    ``cka.first``              linear CKA of its first layer that was looked at with the same layer of the
                               models of other rows, a mean over those models (W Figure 3b)
    ``cka.last``               the same of the last one, the features
    ``ood.SET.SCORE.ap``       average precision by a confidence score against strange images; ``auroc``,
                               ``fpr95`` and ``base_rate`` likewise (T Figure 4b)
    ========================== ============================================================================

    Models of one seed start from the same weights and see the same batches, whatever their loss, which makes them
    alike; W compares different initialisations. So pairs of one seed are left out.

    Args:
        analysis: of a study.
        rows: identity of a trial → label of its row.

    Returns:
        identity of a trial → key, with ``analysis.`` before it → value; what was not measured is left out, and what
        has no other model to compare with is None.
    """
    found: dict[str, dict[str, float | None]] = {}
    identities = {model.label: model.identity for model in analysis.models if model.identity in rows}
    seeds = {model.label: model.seed for model in analysis.models}
    row_of = {label: rows[identity] for label, identity in identities.items() if identity is not None}

    def note(label: str, key: str, values: Sequence[float]) -> None:
        identity = identities[label]
        assert identity is not None
        found.setdefault(identity, {})[f"{ANALYSIS}.{key}"] = fmean(values) if values else None

    def first_of(row: str) -> list[str]:
        # What is a number of a row stands at its first model: as one of each it would count several times in a test.
        return [label for label, own in row_of.items() if own == row][:1]

    for entry in analysis.between.get("agreement") or ():
        if entry["kind"] == _AGREEMENT_KIND:
            matrix = {
                (one, other): float(value)
                for one, line in zip(entry["names"], entry["value"])
                for other, value in zip(entry["names"], line)
                if one != other and one in row_of and other in row_of
            }
            for label in (name for name in entry["names"] if name in row_of):
                others = {other: value for (one, other), value in matrix.items() if one == label}
                same = [value for other, value in others.items() if row_of[other] == row_of[label]]
                note(label, "agreement.same_row", same)
                strangers = [
                    value
                    for other, value in others.items()
                    if row_of[other] != row_of[label] and not _alike(seeds, label, other)
                ]
                note(label, "agreement.other_rows", strangers)
        elif entry["kind"] == _ENSEMBLES_KIND:
            for row, _, rest in _votes(entry):
                for label in first_of(row):
                    note(label, "agreement.ensembles", rest)
    if (ensembles := analysis.between.get("ensembles")) is not None:
        for row, own, rest in _votes(ensembles):
            for label in first_of(row):
                note(label, "ensembles.same_row", [own])
                note(label, "ensembles.other_rows", rest)
    for label, sets in analysis.ood.items():
        if (identity := identities.get(label)) is not None:
            found.setdefault(identity, {}).update(
                {
                    f"{ANALYSIS}.ood.{_title(name)}.{score}.{key}": value
                    for name, scores in sets.items()
                    for score, values in scores.items()
                    for key, value in values.items()
                }
            )
    ends = {
        pair: values
        for pair, values in _ends(analysis.between.get("cka") or (), row_of).items()
        if not _alike(seeds, *pair)
    }
    for label in dict.fromkeys(label for pair in ends for label in pair):
        mine = [values for pair, values in ends.items() if label in pair]
        note(label, "cka.first", [first for first, _ in mine])
        note(label, "cka.last", [last for _, last in mine])
    return found


def _title(name: str) -> str:
    """What tables call a set of images: ``food101`` for Food101, the last part of a path."""
    return name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower() or name


def _alike(seeds: Mapping[str, int | None], one: str, other: str) -> bool:
    """Whether two models started from the same weights and saw the same batches, as W's never do."""
    return seeds[one] is not None and seeds[one] == seeds[other]


def _votes(matrix: Mapping[str, Any]) -> Iterator[tuple[str, float, list[float]]]:
    """Yield each row of models with its own number and those that it has with the other rows."""
    for place, (row, line) in enumerate(zip(matrix["names"], matrix["value"])):
        values = [float(value) for value in line]
        yield row, values[place], values[:place] + values[place + 1 :]


def _ends(pairs: Sequence[Mapping[str, Any]], row_of: Mapping[str, str]) -> dict[tuple[str, str], tuple[float, float]]:
    """First and last diagonal element of the comparison of every two models of different rows and equal layers."""
    found = {}
    for pair in pairs:
        first, second = pair["first"], pair["second"]
        known = first in row_of and second in row_of
        if known and row_of[first] != row_of[second] and pair["rows"] == pair["columns"] and pair["value"]:
            found[first, second] = (float(pair["value"][0][0]), float(pair["value"][-1][-1]))
    return found
