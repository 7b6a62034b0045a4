"""One of the processes that torchrun started for a trial; run as a module, with the folder of its request."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from ...config.errors import TrialError
from ...config.torchrun import torchrun_launch
from ...records.claims import ProcessName
from ..plan import Plan
from ..plugins import import_plugins
from ..together import run_together
from .job import images_kept
from .surroundings import one_thread
from .torchrun import REQUEST_FILE, Request

_LOOK_SECONDS: Final = 0.5
# The leader has failed, and the others need not wait for it in the middle of a sum.
_OVER_FILE: Final = "over"


def main(folder: Path) -> None:
    """Run or help to run the trial that the folder asks for.

    Raises:
        TrialError: this process cannot go on; what the first one meets is also written down for the executor.
    """
    request: Request = pickle.loads((folder / REQUEST_FILE).read_bytes())
    over = folder / _OVER_FILE
    threading.Thread(target=_leave_with_the_others, args=(request.parent, os.getppid(), over), daemon=True).start()
    job, task = request.job, request.task
    launch = torchrun_launch()
    if launch is None:
        raise TrialError("Expected to be started by torchrun, among several processes.")
    poster = request.run.poster()

    def run(plan: Plan) -> None:
        options: dict[str, Any] = {"device": plan.device, "data_root": job.data_root, "ood": task.ood}
        if task.stages:
            options["stages"] = task.stages
        with one_thread(plan.device):
            job.function(task.trial, job.root, report=poster.epoch, **options)

    try:
        import_plugins(job.plugins)
        with images_kept(job.cache):
            run_together(launch, Plan((task.trial,), job.device, job.plugins, ()), run, job.root, job.data_root)
    except Exception as fault:
        # What the first process says comes first: the others often fail because it did.
        if launch.rank == 0:
            poster.fault(fault)
            over.touch()
        raise


def _leave_with_the_others(parent: ProcessName, launcher: int, over: Path) -> None:
    """Leave no orphan when torchrun, or the process that started it, is gone; nor wait for a leader who failed."""
    while os.getppid() == launcher and parent.may_run() and not over.exists():
        time.sleep(_LOOK_SECONDS)
    # Whoever failed writes its own last words.
    time.sleep(_LOOK_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
