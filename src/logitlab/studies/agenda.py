"""Which trial comes next, when other runners may work in the same folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config.trial import TrialConfig
from ..records import OodSource, Store, has_ood
from ..records.claims import Holder, holder

#: How often trials that another runner holds are looked at.
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """A trial to run.

    Attributes:
        trial: the trial.
        attempt: the number of the attempt that this study makes, from 1. A failure with this number, or a higher one,
            was left by another runner meanwhile, and the trial is not tried again.
        ood: sets that a record alone does not make done: the trial is to be measured on them as well.
    """

    trial: TrialConfig
    attempt: int
    ood: tuple[OodSource, ...] = ()

    def ended(self, store: Store) -> bool:
        """Whether a runner left a record, or a failure that is younger than this study."""
        identity = self.trial.identity
        if store.next_attempt(identity) > self.attempt:
            return True
        folder = store.trial_folder(identity)
        return store.is_done(identity) and all(has_ood(folder, source.fingerprint) for source in self.ood)


class Agenda:
    """The trials that are still to run, in order; those that another runner holds wait.

    Args:
        trials: to run.
        store: of the records.
        ended: called with each trial that another runner has ended.
        notice: shows one sentence.
        ood: sets that every trial is measured on.
    """

    def __init__(
        self,
        trials: Sequence[TrialConfig],
        store: Store,
        ended: Callable[[TrialConfig], None],
        notice: Callable[[str], None],
        ood: tuple[OodSource, ...] = (),
    ) -> None:
        self._tasks = [Task(trial, store.next_attempt(trial.identity), ood) for trial in trials]
        self._store = store
        self._ended = ended
        self._notice = notice
        self._told = False
        self._next_look = 0.0

    def __len__(self) -> int:
        """How many trials no process of this study has taken up."""
        return len(self._tasks)

    def take(self) -> Task | None:
        """Return the next trial that nobody holds; None when there is none, or none now.

        Trials that another runner has ended meanwhile leave the agenda.
        """
        if time.monotonic() < self._next_look:
            return None
        held: list[Holder] = []
        for task in list(self._tasks):
            holding = holder(self._store.trial_folder(task.trial.identity))
            if holding is not None:
                held.append(holding)
                continue
            self._tasks.remove(task)
            if not task.ended(self._store):
                return task
            self._ended(task.trial)
        if held:
            self._next_look = time.monotonic() + POLL_SECONDS
            if not self._told:
                self._told = True
                names = ", ".join(sorted({str(holding) for holding in held}))
                self._notice(
                    f"{len(held)} of the trials {'is' if len(held) == 1 else 'are'} running already, in {names}. "
                    "Waiting for what comes of it."
                )
        return None

    def put_back(self, task: Task) -> None:
        """Take back a trial that another runner was faster to claim."""
        self._tasks.append(task)
