"""How a running study looks: bars on a terminal, a line a trial anywhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from ..config.names import printable
from ..config.specification import Specification
from ..config.trial import TrialConfig

if TYPE_CHECKING:
    from ..training import Progress as TrialProgress


class Lines:
    """Plain lines, never wrapped: what is to run, then one a trial.

    Attributes:
        total: trials of the study.
        finished: trials that have a record, those of earlier runs included.
        failed: trials of this run that failed.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._ended = 0
        self.total = 0
        self.finished = 0
        self.failed = 0

    def prepare(self) -> None:
        """Say nothing: faults come before anything else."""

    def start(self, trials: Sequence[TrialConfig], pending: Sequence[TrialConfig], workers: int) -> None:
        """Say what is to be done."""
        self.total = len(trials)
        self.finished = self._ended = len(trials) - len(pending)
        self._line(_opening(trials, pending, workers))

    def planned(self, trials: Sequence[TrialConfig]) -> None:
        """Count trials that have come to be known."""
        self.total += len(trials)

    def notice(self, text: str) -> None:
        """Say ``text``."""
        self._line(f"Note: {text}")

    def trial_started(self, trial: TrialConfig) -> None:
        """Say nothing: a line a trial is enough."""

    def epoch(self, progress: TrialProgress) -> None:
        """Say nothing: a line a trial is enough."""

    def trial_ended(self, trial: TrialConfig, record: Mapping[str, Any]) -> None:
        """Say what the trial measured, or why it failed."""
        self._ended += 1
        self.failed += "error" in record
        self.finished += "error" not in record
        width = len(str(self.total))
        self._line(f"[{self._ended:{width}}/{self.total}] {label(trial)}: {outcome(record)}")

    def reporting(self) -> None:
        """Say nothing: the end is near."""

    def stop(self) -> None:
        """Say nothing."""

    def _line(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Bars(Lines):
    """A bar for the study and one for each running trial, with the time left; ended trials scroll away above."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self._console = Console(file=stream)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            # Epochs may be minutes apart; the default forgets after 30 seconds.
            speed_estimate_period=1800,
        )
        self._status = self._console.status("checking heads and images")
        self._study: TaskID | None = None
        self._running: dict[str, TaskID] = {}

    def prepare(self) -> None:
        """Show that something goes on."""
        self._status.start()

    def start(self, trials: Sequence[TrialConfig], pending: Sequence[TrialConfig], workers: int) -> None:
        """Say what is to be done and show the bar of the study."""
        self._status.stop()
        super().start(trials, pending, workers)
        if pending:
            epochs = sum(trial.training.epochs for trial in pending)
            self._study = self._progress.add_task("study", total=epochs, note="")
            self._progress.start()

    def planned(self, trials: Sequence[TrialConfig]) -> None:
        """Lengthen the bar of the study."""
        super().planned(trials)
        if self._study is not None:
            task = self._progress.tasks[self._progress.task_ids.index(self._study)]
            epochs = sum(trial.training.epochs for trial in trials)
            self._progress.update(self._study, total=(task.total or 0) + epochs)

    def trial_started(self, trial: TrialConfig) -> None:
        """Show the trial's bar."""
        task = self._progress.add_task(label(trial), total=trial.training.epochs, note="")
        self._running[trial.identity] = task

    def epoch(self, progress: TrialProgress) -> None:
        """Move the trial's bar and the study's."""
        task = self._running[progress.identity]
        note = f"loss {progress.loss:.3g}, accuracy {progress.accuracy:.1%}"
        # A trial that is resumed begins at the epoch after which it was killed.
        advanced = progress.epoch - self._completed(task)
        self._progress.update(task, completed=progress.epoch, note=note)
        if self._study is not None:
            self._progress.advance(self._study, advanced)

    def trial_ended(self, trial: TrialConfig, record: Mapping[str, Any]) -> None:
        """Remove the trial's bar; write its line."""
        # One that another runner ran has no bar here.
        task = self._running.pop(trial.identity, None)
        left: float = trial.training.epochs
        if task is not None:
            left -= self._completed(task)
            self._progress.remove_task(task)
        if self._study is not None:
            # Epochs that early stopping or a failure saved.
            self._progress.advance(self._study, left)
        super().trial_ended(trial, record)

    def reporting(self) -> None:
        """Show that something goes on when the trials are over."""
        self._progress.stop()
        self._status.update("writing the report")
        self._status.start()

    def stop(self) -> None:
        """Take the bars away."""
        self._status.stop()
        self._progress.stop()

    def _completed(self, task: TaskID) -> float:
        return self._progress.tasks[self._progress.task_ids.index(task)].completed

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)


def create_reporter(stream: IO[str]) -> Lines:
    """Return bars for a terminal and lines for anything else."""
    console = Console(file=stream)
    return Bars(stream) if console.is_terminal and not console.is_dumb_terminal else Lines(stream)


def label(trial: TrialConfig) -> str:
    """Name a trial by its head and seed."""
    return f"{Specification(trial.head.name, trial.head.parameters)}, seed {trial.seed}"


def outcome(record: Mapping[str, Any]) -> str:
    """Say in one line what a trial measured, or why it failed."""
    if "error" in record:
        return f"FAILED: {' '.join(str(record['error']['message']).split())}"
    # The trials of a search have looked at the validation images alone.
    measured = record["result"]["test"] or record["result"]["validation"]
    which = "" if record["result"]["test"] else "validation "
    parts = [f"{which}accuracy {measured['accuracy']:.2%}"]
    kappa = measured.get("kappa")
    if kappa is not None:
        parts.append(f"κ {kappa:.3g}")
    return ", ".join([*parts, f"{record['provenance'].get('seconds', 0.0):.1f} s"])


def _opening(trials: Sequence[TrialConfig], pending: Sequence[TrialConfig], workers: int) -> str:
    if not trials:
        return "No trial is to be run."
    first = trials[0]
    heads = len({(trial.head.name, str(trial.head.parameters)) for trial in trials})
    seeds = len({trial.seed for trial in trials})
    backbone = Specification(first.backbone.name, first.backbone.parameters)
    lengths = sorted({trial.training.epochs for trial in trials})
    length = _count(lengths[0], "epoch") if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]} epochs"
    crossed = f"{_count(heads, 'head')} x {_count(seeds, 'seed')}"
    # A grid, or a search, has more than heads and seeds.
    product = f"{crossed} = " if heads * seeds == len(trials) else f"{crossed}, "
    study = f"{printable(first.data.name)}, {backbone}: {product}{_count(len(trials), 'trial')} of {length}"
    kept = len(trials) - len(pending)
    if not pending:
        return f"{study}; all of them are recorded already."
    done = f"; {kept} recorded already" if kept else ""
    return f"{study}{done}; {workers} at a time."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
