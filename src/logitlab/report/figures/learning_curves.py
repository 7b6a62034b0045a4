"""Accuracy, loss and κ* through the epochs: what every report shows of the histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .epoch_lines import History, epoch_line, epoch_lines
from .panel import Panel

# key of an epoch, heading, factor, logarithmic
_MEASURES = (
    ("validation_accuracy", "accuracy on the validation images, %", 100.0, False),
    ("loss", "loss on the training images", 1.0, True),
    ("validation_loss", "loss on the validation images", 1.0, True),
    ("kappa_star", "κ* on the validation images", 1.0, False),
)


def learning_curves(histories: Mapping[int, Sequence[History]]) -> list[Panel]:
    """Draw every measure of the history.

    Args:
        histories: a head's place → one history a finished seed.

    Returns:
        one panel a measure; words in place of a picture where no epoch has it.
    """
    return [_curves(histories, *measure) for measure in _MEASURES]


def _curves(
    histories: Mapping[int, Sequence[History]], key: str, title: str, factor: float, logarithmic: bool
) -> Panel:
    lines = {
        index: [line for history in seeds if (line := epoch_line(history, key, factor))]
        for index, seeds in histories.items()
    }
    if not any(lines.values()):
        return Panel(title, words="The records hold no such history.")
    positive = all(value > 0 for head in lines.values() for line in head for value in line.values())
    name = f"curve-{key.replace('_', '-')}"
    return epoch_lines(name, title, lines, logarithmic=logarithmic and positive)
