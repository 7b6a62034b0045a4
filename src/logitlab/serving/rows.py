"""Answers as CSV or JSON lines, written as they come."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any

from logitlab.config.errors import InputError
from logitlab.config.names import printable, unknown_name

from .answers import Prediction

FORMATS = ("csv", "jsonl")


@dataclass(frozen=True)
class Summary:
    """What became of the images.

    Attributes:
        accepted: answers that were accepted.
        rejected: answers that were not.
        unreadable: images that could not be read.
    """

    accepted: int
    rejected: int
    unreadable: int

    @property
    def answered(self) -> int:
        """Images that could be read."""
        return self.accepted + self.rejected

    @property
    def images(self) -> int:
        """All of them."""
        return self.answered + self.unreadable

    def __str__(self) -> str:
        unreadable = f", {self.unreadable} unreadable" if self.unreadable else ""
        plural = "" if self.images == 1 else "s"
        return f"{self.images} image{plural}: {self.accepted} accepted, {self.rejected} rejected{unreadable}."


def write_predictions(
    predictions: Iterable[Prediction],
    target: IO[str],
    *,
    form: str = "csv",
    score: str = "probability",
    complain: Callable[[str], Any] | None = None,
) -> Summary:
    """Write a row an image as the answers come: path, class, score, ``accept`` or ``reject``, error.

    Names are written as they are, one that a spreadsheet would take for a formula included.

    Args:
        predictions: the answers.
        target: where the rows go, flushed after each thousand.
        form: ``"csv"`` with a line of headings, or ``"jsonl"`` with an object a line.
        score: what the confidence is called: ``"probability"`` or ``"max_logit"``.
        complain: called with a sentence for each image that could not be read.

    Raises:
        InputError: another form.
    """
    if form not in FORMATS:
        raise InputError(unknown_name("format", form, FORMATS))
    columns = ("path", "class", score, "accepted", "error")
    writer = csv.writer(target, lineterminator="\n")
    if form == "csv":
        writer.writerow(columns)
    counts = {"accept": 0, "reject": 0, "": 0}
    for number, answer in enumerate(predictions, start=1):
        values = _values(answer)
        counts[values[3] or ""] += 1
        if answer.error is not None and complain is not None:
            complain(answer.error)
        if form == "csv":
            writer.writerow(["" if value is None else value for value in values])
        else:
            target.write(json.dumps(dict(zip(columns, values)), ensure_ascii=False) + "\n")
        if number % 1000 == 0:
            target.flush()
    target.flush()
    return Summary(counts["accept"], counts["reject"], counts[""])


def _values(answer: Prediction) -> tuple[Any, ...]:
    # A name that is not UTF-8 is written as the rest of LogitLab writes it.
    path = printable(answer.path or "")
    if answer.error is not None:
        return path, None, None, None, answer.error
    return path, answer.name, float(f"{answer.confidence:.7g}"), "accept" if answer.accepted else "reject", None
