"""What the program of a row asks for, and what it is answered."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...config.study.rows import RowSpecification
from ...config.trial import TrialConfig
from ...records.study import PlannedTrial


class Lost:
    """The outcome of a trial that something else than itself has ended: nobody knows what it would have measured."""


#: Measures of a finished trial, key → value; None for a trial that failed for a reason of its own.
Outcome: TypeAlias = Mapping[str, float | None] | Lost | None

#: Of the final trials of a row, seed → outcome.
Outcomes: TypeAlias = Mapping[int, Outcome]


@dataclass(frozen=True)
class Trials:
    """Asks for trials; answered, when all have ended, by identity → `Outcome`."""

    wanted: tuple[tuple[TrialConfig, PlannedTrial], ...]


@dataclass(frozen=True)
class Rows:
    """Asks for rows; answered, when all have ended, by label → `Outcomes`."""

    labels: tuple[str, ...]


Program: TypeAlias = Generator[Trials | Rows, Any, None]


@dataclass
class Progress:
    """Where a row stands; its program writes here what the plan of the study tells.

    Attributes:
        row: the row.
        trials: those that are known, in order.
        chosen: axis → value, what a search or another row has given.
        waiting: why not all trials are known; None where they are.
        blocked: why they never will be; None otherwise.
        remarks: what is to be known of its search.
        expected: trials in all, at least.
        finals: seed → identity of the final trial.
        over: nothing more is asked for, or can be.
        lost: identities of trials whose loss the row waits for to be made good.
    """

    row: RowSpecification
    trials: list[PlannedTrial] = field(default_factory=list)
    chosen: dict[str, Any] = field(default_factory=dict)
    waiting: str | None = None
    blocked: str | None = None
    remarks: list[str] = field(default_factory=list)
    expected: int = 0
    finals: dict[int, str] = field(default_factory=dict)
    over: bool = False
    lost: list[str] = field(default_factory=list)
