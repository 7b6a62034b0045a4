"""What a study tells whoever watches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..config.trial import TrialConfig

if TYPE_CHECKING:
    from ..training import Progress


class Reporter(Protocol):
    """Receives the events of a study, all of them in the caller's process and thread."""

    def prepare(self) -> None:
        """The arguments are being checked and the data loaded; this comes first, and takes seconds."""

    def start(self, trials: Sequence[TrialConfig], pending: Sequence[TrialConfig], workers: int) -> None:
        """The study begins: of ``trials`` those in ``pending`` are still to run, ``workers`` at a time."""

    def planned(self, trials: Sequence[TrialConfig]) -> None:
        """Further trials have come to be known by what others have found."""

    def notice(self, text: str) -> None:
        """Something that the user should know, one sentence."""

    def trial_started(self, trial: TrialConfig) -> None:
        """A worker took the trial up."""

    def epoch(self, progress: Progress) -> None:
        """A running trial finished an epoch, or goes on after one that an earlier attempt finished."""

    def trial_ended(self, trial: TrialConfig, record: dict[str, Any]) -> None:
        """A trial left its record, or (with the key ``"error"``) its failure.

        A trial that another runner ran into the same folder did not start here.
        """

    def reporting(self) -> None:
        """The trials are over; the page of pictures is being made, which takes seconds."""

    def stop(self) -> None:
        """The study is over: finished, refused or interrupted; this always comes last."""


class Silent:
    """A reporter that says nothing: the default in Python."""

    def prepare(self) -> None:
        """Say nothing."""

    def start(self, trials: Sequence[TrialConfig], pending: Sequence[TrialConfig], workers: int) -> None:
        """Say nothing."""

    def planned(self, trials: Sequence[TrialConfig]) -> None:
        """Say nothing."""

    def notice(self, text: str) -> None:
        """Say nothing."""

    def trial_started(self, trial: TrialConfig) -> None:
        """Say nothing."""

    def epoch(self, progress: Progress) -> None:
        """Say nothing."""

    def trial_ended(self, trial: TrialConfig, record: dict[str, Any]) -> None:
        """Say nothing."""

    def reporting(self) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""
