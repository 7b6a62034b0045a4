"""Which trial comes next, when other runners may work in the same folder."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ..config.trial import TrialConfig
from ..records import OodSource, Store, has_ood
from ..records.claims import Holder, holder
from ..records.study import StageSource

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
        stages: what is to be done with the trained model; likewise.
        deaths: how many processes of this study have died of it, or with it.
    """

    trial: TrialConfig
    attempt: int
    ood: tuple[OodSource, ...] = ()
    stages: tuple[StageSource, ...] = ()
    deaths: int = 0

    def ended(self, store: Store) -> bool:
        """Whether a runner left all that is asked for, or a failure that is younger than this study."""
        identity = self.trial.identity
        if store.next_attempt(identity) > self.attempt:
            return True
        folder = store.trial_folder(identity)
        if not store.is_done(identity) or not all(has_ood(folder, source.fingerprint) for source in self.ood):
            return False
        if not self.stages:
            return True
        from ..records.stages import has_stage

        return all(has_stage(folder, stage.identity) for stage in self.stages)


class Agenda:
    """The trials that are still to run, in order; those that another runner holds wait.

    Trials may be added while others run, by the thread that runs the study. A trial is run, and told to have ended,
    once, however often it is added.

    Args:
        trials: to run.
        store: of the records.
        ended: called with each trial that another runner has ended; it may add trials.
        notice: shows one sentence.
        ood: sets that every trial is measured on that looks at test images.
        stages: what is done with the model of every such trial.
    """

    def __init__(
        self,
        trials: Iterable[TrialConfig],
        store: Store,
        ended: Callable[[TrialConfig], None],
        notice: Callable[[str], None],
        ood: tuple[OodSource, ...] = (),
        stages: tuple[StageSource, ...] = (),
    ) -> None:
        self._fresh: deque[Task] = deque()
        self._held: deque[Task] = deque()
        self._known: set[str] = set()
        self._store = store
        self._ended = ended
        self._notice = notice
        self._ood = ood
        self._stages = stages
        self._told = False
        self._next_look = 0.0
        self.add(trials)

    def __len__(self) -> int:
        """How many trials no process of this study has taken up."""
        return len(self._fresh) + len(self._held)

    def add(self, trials: Iterable[TrialConfig]) -> None:
        """Append trials that came to be known; those that were added before change nothing.

        A trial that is done already is told to have ended when its turn comes.
        """
        for trial in trials:
            identity = trial.identity
            if identity in self._known:
                continue
            self._known.add(identity)
            # The trials of a search choose by the validation images alone.
            whole = getattr(trial, "measure_test", True)
            attempt = self._store.next_attempt(identity)
            self._fresh.append(Task(trial, attempt, self._ood if whole else (), self._stages if whole else ()))

    def adopt(self, tasks: Iterable[Task]) -> None:
        """Append tasks of another agenda as they are, with their attempts."""
        for task in tasks:
            self._known.add(task.trial.identity)
            self._fresh.append(task)

    def take(self) -> Task | None:
        """Return the next trial that nobody holds; None when there is none, or none now.

        Trials that another runner has ended meanwhile leave the agenda.
        """
        while self._fresh:
            task = self._fresh.popleft()
            found = holder(self._store.trial_folder(task.trial.identity))
            if found is not None:
                self._held.append(task)
            elif (free := self._unless_ended(task)) is not None:
                return free
        return self._take_held() if self._held and time.monotonic() >= self._next_look else None

    def put_back(self, task: Task) -> None:
        """Take back a trial that another runner was faster to claim."""
        self._fresh.append(task)

    def try_again(self, task: Task) -> None:
        """Take back a trial whose process died; it comes last."""
        self._fresh.append(replace(task, deaths=task.deaths + 1))

    def _take_held(self) -> Task | None:
        held: list[Holder] = []
        for _ in range(len(self._held)):
            task = self._held.popleft()
            found = holder(self._store.trial_folder(task.trial.identity))
            if found is not None:
                held.append(found)
                self._held.append(task)
            elif (free := self._unless_ended(task)) is not None:
                return free
        self._next_look = time.monotonic() + POLL_SECONDS
        if held and not self._told:
            self._told = True
            names = ", ".join(sorted({str(holding) for holding in held}))
            self._notice(
                f"{len(held)} of the trials {'is' if len(held) == 1 else 'are'} running already, in {names}. "
                "Waiting for what comes of it."
            )
        return None

    def _unless_ended(self, task: Task) -> Task | None:
        if not task.ended(self._store):
            return task
        self._ended(task.trial)
        return None
