"""Figures of the kind ``epochs``: keys of the histories of a study's rows, through the epochs (T Figure 1, L)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from logitlab.config.study import FigureConfig
from logitlab.records.study import StudyResults, StudyRow
from logitlab.report.figures import Panel
from logitlab.report.figures.canvas import plain
from logitlab.report.figures.epoch_lines import EpochLine, epoch_line, epoch_lines, mean_line

from .reading import places, row_groups

# Measure → key of an epoch, heading, factor, shift. An error is what is missing to an accuracy of 1.
_MEASURES: dict[str, tuple[str, str, float, float]] = {
    "loss": ("loss", "loss on the training images", 1.0, 0.0),
    "accuracy": ("accuracy", "accuracy on the training images, %", 100.0, 0.0),
    "error": ("accuracy", "error on the training images, %", -100.0, 100.0),
    "validation_loss": ("validation_loss", "loss on the validation images", 1.0, 0.0),
    "validation_accuracy": ("validation_accuracy", "accuracy on the validation images, %", 100.0, 0.0),
    "validation_error": ("validation_accuracy", "error on the validation images, %", -100.0, 100.0),
    "kappa": ("kappa", "κ", 1.0, 0.0),
    "kappa_star": ("kappa_star", "κ* on the validation images", 1.0, 0.0),
    "learning_rate": ("learning_rate", "learning rate", 1.0, 0.0),
}

_SIZE = (520.0, 300.0)


def epoch_figures(
    results: StudyResults, config: FigureConfig, measure: str, rows: Sequence[StudyRow], name: str
) -> list[Panel]:
    """Draw one measure through the epochs, a picture for each group of rows that compare.

    Args:
        results: of the study.
        config: the figure.
        measure: one of ``logitlab.config.study.report.HISTORY_MEASURES``.
        rows: that are drawn.
        name: of the picture, unique in the page.
    """
    if measure not in _MEASURES:
        return [Panel(measure, words=f"No history holds '{measure}'. Known: {', '.join(_MEASURES)}.")]
    key, title, factor, shift = _MEASURES[measure]
    place, histories = places(results), _histories(results)
    panels = []
    groups = [(group.name, [row for row in group.rows if row in rows]) for group in row_groups(results)]
    for number, (group, members) in enumerate(groups):
        if not members:
            continue
        lines: dict[int, list[EpochLine]] = {}
        said: list[str] = []
        without: list[str] = []
        unfinished: list[str] = []
        dropped = 0
        for row in members:
            given = histories.get(row.label, [])
            drawn: list[EpochLine] = []
            for history in given:
                line = epoch_line(history, key, factor, shift)
                kept = {epoch: value for epoch, value in line.items() if value > 0 or not config.logarithmic}
                dropped += len(line) - len(kept)
                if kept:
                    drawn.append(kept)
            if drawn:
                lines[place[row.label]] = drawn
                said.append(_said(row.label, drawn))
            else:
                (without if given else unfinished).append(row.label)
        words = [*_left_out(without, title), *(_sentence(unfinished, "No trial of {} has finished."))]
        if any(len(drawn) > 1 for drawn in lines.values()):
            words.insert(0, "Strong: the mean over seeds; thin: the seeds.")
        if dropped:
            words.append("Values that are not positive have no place on the logarithmic axis and were left out.")
        heading = f"{title}, {group}" if group else title
        if not lines:
            panels.append(Panel(heading, words=" ".join(words) or "No finished trial has such a history."))
            continue
        panels.append(
            epoch_lines(
                f"{name}-{number}",
                heading,
                lines,
                logarithmic=config.logarithmic,
                size=_SIZE,
                words=" ".join(words),
                said="; ".join(said),
            )
        )
    return panels


def _histories(results: StudyResults) -> Mapping[str, list[Sequence[Mapping[str, Any]]]]:
    """Return label of a row → histories of its finished final trials."""
    found: dict[str, list[Sequence[Mapping[str, Any]]]] = {}
    for planned in results.plan.trials:
        record = results.records.get(planned.identity)
        if planned.role == "final" and record is not None and planned.row is not None:
            found.setdefault(planned.row, []).append(record["result"].get("history") or [])
    return found


def _said(label: str, lines: Sequence[EpochLine]) -> str:
    means = mean_line(lines)
    return f"{plain(label)}: {means[0]:.3g} first, {means[-1]:.3g} last" if means else plain(label)


def _left_out(labels: Sequence[str], title: str) -> list[str]:
    return _sentence(labels, f"Left out, for the history holds no such number ({title}): {{}}.")


def _sentence(labels: Sequence[str], form: str) -> list[str]:
    return [form.replace("{}", ", ".join(labels))] if labels else []
