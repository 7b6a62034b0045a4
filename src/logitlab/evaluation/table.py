"""Measures as lines of text: name, value, and the convention that it was computed by. ``train`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from logitlab.config.names import printable

#: How each of ``MEASURES`` is computed, in the words of its `logitlab.analysis.Measurement`; units come first.
CONVENTIONS: dict[str, str] = {
    "accuracy": "top-1, ties to the lower index",
    "balanced_accuracy": "mean recall over classes",
    "nll": "nats",
    "ece": "15 bins of equal width (lo, hi]",
    "class_separation": "cosine distance, classes weighted alike",
    "miss_ap": "positive: correct answers; step sum, tied scores share a threshold",
    "miss_base_rate": "share of correct answers",
    "class_angle": "degrees, mean over samples",
    "kappa": "used at inference",
    "kappa_star": "least squares, mean over samples",
}


def measures_text(
    title: str,
    measures: Mapping[str, float | None],
    *,
    ood: Mapping[str, Mapping[str, float | None]] | None = None,
    where: Mapping[str, str] | None = None,
    warnings: Mapping[str, Iterable[str]] | None = None,
    remarks: Iterable[str] = (),
) -> str:
    """Write a line a measure: name, value, convention.

    Args:
        title: the first line: which model on which images.
        measures: names of ``CONVENTIONS`` and their values; None where one is undefined.
        ood: name of an out-of-distribution set → its measures.
        where: of a measure that rests on other images than the title says, on which.
        warnings: of a measure, a sentence each.
        remarks: lines below the title.
    """
    lines = [title, *remarks]
    for name, value in measures.items():
        if value is None:
            lines.append(f"{name:<17} {'–':>9}  not defined for this head or these answers")
            continue
        place = f" ({where[name]})" if where and name in where else ""
        lines.append(f"{name:<17} {value:>9.4f}  {CONVENTIONS.get(name, '')}".rstrip() + place)
        lines += [f"{'':<17} {'':>9}  warning: {warning}" for warning in (warnings or {}).get(name, ())]
    for name, found in (ood or {}).items():
        shown = [f"{key} {'–' if value is None else f'{value:.4f}'}" for key, value in found.items()]
        lines.append(f"{printable(name)}: {', '.join(shown)}")
    return "\n".join(lines) + "\n"
