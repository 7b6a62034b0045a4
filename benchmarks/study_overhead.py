"""What scheduling costs: trials that do nothing but leave a record, delivered by an executor, workers started included.

Prints seconds in all, seconds until the first trial ended, and milliseconds a trial.

    python benchmarks/study_overhead.py [TRIALS] [--executor process|serial|ray|slurm] [--workers N] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from pathlib import Path

from logitlab.config.study import ExecutionConfig
from logitlab.config.training import TrainingConfig
from logitlab.config.trial import ComponentConfig, DataConfig, TrialConfig
from logitlab.records import Store
from logitlab.studies.agenda import Agenda
from logitlab.studies.executors import Job, deliver


def no_op(trial, root, *, device="cpu", data_root=None, report=None, ood=(), stages=()):
    """Leave a record, as every trial does; a worker imports for its first one what training needs."""
    import logitlab.training  # noqa: F401

    result = {"test": {"accuracy": 0.5}}
    Store(root).write_record(trial.identity, trial.model_dump(mode="json"), result, {"seconds": 0.0})


class Clock:
    """Hears of every trial, and remembers when the first one ended."""

    def __init__(self) -> None:
        self.ended = 0
        self.first = 0.0
        self.began = time.perf_counter()

    def notice(self, text: str) -> None:
        print(text)

    def trial_started(self, trial: TrialConfig) -> None:
        """Nothing is shown."""

    def epoch(self, progress: object) -> None:
        """Nothing is shown."""

    def trial_ended(self, trial: TrialConfig) -> None:
        self.ended += 1
        self.first = self.first or time.perf_counter() - self.began


def make_trials(count: int) -> list[TrialConfig]:
    return [
        TrialConfig(
            data=DataConfig(),
            data_fingerprint="f",
            backbone=ComponentConfig(name="mlp"),
            head=ComponentConfig(name="softmax"),
            training=TrainingConfig(),
            seed=seed,
        )
        for seed in range(count)
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", type=int, nargs="?", default=1000)
    parser.add_argument("--executor", default="process")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="show where the runner's own time goes")
    options = parser.parse_args(arguments)
    # Workers import the function by this name; as '__main__' they would not find it.
    sys.path.insert(0, str(Path(__file__).parent))
    from study_overhead import no_op as function

    trials = make_trials(options.trials)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        clock = Clock()
        profile = cProfile.Profile()
        if options.profile:
            profile.enable()
        agenda = Agenda(trials, store, clock.trial_ended, clock.notice)
        execution = ExecutionConfig(executor=options.executor, workers=options.workers)
        deliver(Job(function, Path(folder)), agenda, clock, execution)
        profile.disable()
        seconds = time.perf_counter() - clock.began
        done = sum(store.is_done(trial.identity) for trial in trials)
    if options.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)
    print(
        f"{done} of {len(trials)} trials by {options.executor}, {options.workers} at a time: {seconds:.1f} s, the "
        f"first after {clock.first:.1f} s, {1000 * (seconds - clock.first) / max(1, done - 1):.1f} ms a trial"
    )
    return 0 if done == clock.ended == len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
