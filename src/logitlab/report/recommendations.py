"""Which head to take for which purpose, in sentences that claim no more than the tests show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from logitlab.config.trial import canonical_json
from logitlab.statistics import (
    BestComparison,
    Correction,
    Test,
    compare_to_best,
    mean_and_error,
    present,
)

from .columns import COLUMNS, OOD_KEY, write_estimate
from .rows import HeadRecords, Record, group_by_head

_COLUMNS = {column.key: column for column in COLUMNS}

# Features that tell no classes apart have the lowest R² of all: a head counts for transfer only from this share
# of the best accuracy on.
_LEARNT = 0.9
# Their R² differs by rounding alone, and so would a choice by it.
_FROZEN = "the backbone is frozen and transfers alike whatever the head"


@dataclass(frozen=True)
class Advice:
    """One purpose, with what its line rests on.

    Attributes:
        purpose: what a head is wanted for.
        verdict: what the tests show.
        key: of the column that decides.
        higher_is_better: which end of it.
        taken: label of the head to take; None where no difference was shown.
        compared: labels of the heads that were compared; empty where the comparison says nothing.
    """

    purpose: str
    verdict: str
    key: str
    higher_is_better: bool
    taken: str | None
    compared: tuple[str, ...]

    @property
    def line(self) -> str:
        """The purpose and the verdict in one line."""
        return f"for {self.purpose}{'' if self.taken is not None else ':'} {self.verdict}"


@dataclass(frozen=True)
class _Purpose:
    name: str
    key: str
    higher_is_better: bool
    beside: tuple[str, ...] = ()
    worse: str = "worse"
    remark: str = ""
    only_learnt: bool = False
    rival: str = ""


_PURPOSES = (
    _Purpose("accuracy", "accuracy", True),
    _Purpose("calibrated confidence", "nll", False, beside=("ece",), worse="worse by NLL", rival="ece"),
    _Purpose("rejecting its own mistakes", "miss_ap", True),
    # T §3.2.1 and Figure 4 (b).
    _Purpose("rejecting strange inputs", OOD_KEY, True),
    # W §3.4 and Table 6; T §3.2.2 and Table 4.
    _Purpose(
        "transfer",
        "class_separation",
        False,
        beside=("accuracy",),
        worse="higher",
        remark="; R² (class separation) is a proxy: features with a lower one transferred better in the papers, "
        "transfer itself was not measured",
        only_learnt=True,
    ),
)


def recommendations(
    records: Iterable[Record],
    *,
    test: Test = "pooled",
    correction: Correction | None = None,
    level: float = 0.05,
) -> list[str]:
    """Write one line a purpose: accuracy, calibrated confidence, rejecting mistakes or strange inputs, transfer.

    Args:
        records: finished and failed trials of one data set; see :func:`~logitlab.report.group_by_head`.
        test: ``"pooled"`` or ``"welch"``; see :func:`~logitlab.statistics.compare_to_best`.
        correction: None or ``"holm"``.
        level: p at and below which a head is worse than the best.

    Returns:
        "for accuracy take …" where the tests show some head to be worse than the best, "for accuracy: no
        difference shown …" where they do not, and a line that says why where nothing can be tested. No line
        when no trial finished.

    Raises:
        InputError: the records are of more than one data set, or hold an infinite value.
        ParameterError: an option outside its range.
    """
    return [each.line for each in advise(records, test=test, correction=correction, level=level)]


def advise(
    records: Iterable[Record],
    *,
    test: Test = "pooled",
    correction: Correction | None = None,
    level: float = 0.05,
) -> list[Advice]:
    """Return what :func:`recommendations` writes, purpose by purpose; arguments and errors are the same."""
    heads = {head.label: head for head in group_by_head(records) if head.finished}
    found = []
    ood = next((head.ood for head in heads.values()), ())
    for purpose in _PURPOSES if heads else ():
        if purpose.key == OOD_KEY:
            if not ood:
                continue
            purpose = replace(purpose, remark=f"; strange: {', '.join(ood)}")
        if purpose.only_learnt and _share_features(heads.values()):
            found.append(Advice(purpose.name, _FROZEN, purpose.key, purpose.higher_is_better, None, ()))
            continue
        candidates = _learnt_heads(heads) if purpose.only_learnt else heads
        comparison = compare_to_best(
            {label: head.values(purpose.key) for label, head in candidates.items()},
            higher_is_better=purpose.higher_is_better,
            test=test,
            correction=correction,
            level=level,
        )
        left_out = [label for label in heads if label not in candidates]
        taken, verdict = _verdict(purpose, comparison, candidates, selected=bool(left_out))
        if left_out:
            verdict += f"; left out, with less than {_LEARNT:.0%} of the best accuracy: {', '.join(left_out)}"
        found.append(Advice(purpose.name, verdict, purpose.key, purpose.higher_is_better, taken, tuple(candidates)))
    return found


def _learnt_heads(heads: dict[str, HeadRecords]) -> dict[str, HeadRecords]:
    """Keep the heads whose mean accuracy is near the best one."""
    means = {label: mean_and_error(head.values("accuracy")).mean for label, head in heads.items()}
    return {label: head for label, head in heads.items() if means[label] >= _LEARNT * max(means.values())}


def _share_features(heads: Iterable[HeadRecords]) -> bool:
    """Say whether all heads stand on the features of one frozen backbone."""
    configs = [head.config for head in heads]
    frozen = all((config.get("training") or {}).get("freeze_backbone") for config in configs)
    return frozen and len({canonical_json([config.get("backbone"), config.get("data")]) for config in configs}) == 1


def _verdict(
    purpose: _Purpose, found: BestComparison, heads: dict[str, HeadRecords], *, selected: bool
) -> tuple[str | None, str]:
    """Return the head to take, if any, and what the tests show; ``selected``: not every head was compared."""
    if found.best is None:
        return None, f"not measured ({_COLUMNS[purpose.key].heading} is undefined for every head)"
    end = "highest" if purpose.higher_is_better else "lowest"
    figures = _figures(purpose, heads[found.best])
    undefined = [label for label in heads if label not in found.p_values]
    tail = _rival(purpose, found.best, heads) + purpose.remark
    tail += f"; undefined for {', '.join(undefined)}" if undefined else ""
    if len(heads) == 1 and selected:
        return None, f"only {found.best} learnt enough to be compared ({figures}){tail}"
    if len(found.p_values) == 1:
        among = "of the heads that learnt enough " if selected else ""
        return None, f"{among}only {found.best} was measured ({figures}), nothing to compare it with{tail}"
    if not found.tested:
        seeds = max(len(present(heads[label].values(purpose.key))) for label in found.p_values)
        if seeds == 1:
            return None, f"one seed shows no difference ({end}: {found.best}, {figures}); run at least 3{tail}"
        return None, f"seeds that agree exactly allow no test ({end}: {found.best}, {figures}){tail}"
    if found.all_alike:
        return None, f"no difference shown ({end} mean: {found.best}, {figures}){tail}"
    others = [label for label in heads if label in found.not_worse and label != found.best]
    also = f"not significantly {purpose.worse}: {', '.join(others)}"
    if not others:
        also = f"every other head is significantly {purpose.worse}"
    return found.best, f"take {found.best} ({figures}); {also}{tail}"


def _rival(purpose: _Purpose, best: str, heads: dict[str, HeadRecords]) -> str:
    """Say so where another measure of the same purpose would choose another head."""
    if not purpose.rival:
        return ""
    column = _COLUMNS[purpose.rival]
    found = {
        label: mean_and_error(values) for label, head in heads.items() if present(values := head.values(purpose.rival))
    }
    lowest = min(found, key=lambda label: found[label].mean, default=best)
    if best not in found or found[lowest].mean == found[best].mean:
        return ""
    mean, error = write_estimate(column, found[lowest])
    return f"; lowest {column.heading}: {lowest} ({mean}{f' ± {error}' if error else ''})"


def _figures(purpose: _Purpose, head: HeadRecords) -> str:
    """The numbers behind a verdict, as the table writes them."""
    parts = []
    for key in (purpose.key, *purpose.beside):
        if present(head.values(key)):
            column = _COLUMNS[key]
            mean, error = write_estimate(column, mean_and_error(head.values(key)))
            name = "" if key == purpose.name else column.heading.removesuffix("%").strip() + " "
            parts.append(f"{name}{mean}{f' ± {error}' if error else ''}{column.unit}")
    return ", ".join(parts)
