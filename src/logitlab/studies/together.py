"""One trial on the processes that torchrun started: the first of them runs it, the others help to train."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from ..config.errors import LogitLabError, TrialError
from ..config.torchrun import Launch
from .executors import one_thread
from .interruption import Terminated
from .plan import Plan


def run_together(launch: Launch, plan: Plan, run: Callable[[Plan], None], folder: Path, data_root: str | None) -> None:
    """Run a plan of one trial on all processes of a launch; every process calls this and returns when it is over.

    Args:
        launch: what torchrun said.
        plan: the same in every process.
        run: runs the plan; called in the process of rank 0 alone, which writes and prints.
        folder: of the records; the same one for all processes.
        data_root: the folder that holds data sets.

    Raises:
        TrialError: this process, one of the helpers, cannot go on; torchrun then ends the others.
        KeyboardInterrupt: the user ended it, at once: torchrun gives no time to finish a trial.
    """
    import torch

    from ..training.distributed import joined
    from ..training.trial import assist

    (trial,) = plan.trials
    device = f"cuda:{launch.local_rank}" if plan.device.startswith("cuda") else plan.device
    with joined(launch, torch.device(device)) as ranks:
        if ranks.leads:
            try:
                run(replace(plan, device=device))
            except KeyboardInterrupt:
                # The others were told as well: they do not wait for orders.
                raise
            except BaseException:
                ranks.dismiss()
                raise
            ranks.dismiss()
            return
        with _patient() as told:
            while ranks.wait_for_call(give_up=lambda: bool(told)):
                try:
                    with one_thread(device):
                        assist(trial, folder, device=device, data_root=data_root)
                except LogitLabError:
                    raise
                except Exception as fault:  # a user's head or backbone may raise anything
                    if told:
                        break
                    text = " ".join(str(fault).split()) or type(fault).__name__
                    raise TrialError(f"Process {launch.rank} of {launch.size} cannot go on: {text}") from fault
            if told:
                raise Terminated if told[0] == signal.SIGTERM else KeyboardInterrupt


@contextmanager
def _patient() -> Iterator[list[int]]:
    """Note SIGINT and SIGTERM, and obey them later: whoever ends in the middle of a sum fails the leader.

    The leader is told as well and ends; this process then cannot go on.

    Yields:
        the signals that came.
    """
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
