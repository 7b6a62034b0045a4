"""One trial on the processes that torchrun started: the first of them runs it, the others help to train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..config.errors import LogitLabError, TrialError
from ..config.torchrun import Launch
from .executors import one_thread
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
            finally:
                ranks.dismiss()
            return
        while ranks.wait_for_call():
            try:
                with one_thread(device):
                    assist(trial, folder, device=device, data_root=data_root)
            except LogitLabError:
                raise
            except Exception as fault:  # a user's head or backbone may raise anything
                text = " ".join(str(fault).split()) or type(fault).__name__
                raise TrialError(f"Process {launch.rank} of {launch.size} cannot go on: {text}") from fault
