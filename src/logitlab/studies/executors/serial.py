"""The executor ``serial``: one trial after another, in this process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from ...config.torchrun import torchrun_launch
from ...config.trial import TrialConfig
from ..agenda import POLL_SECONDS, Agenda
from ..interruption import interruptible
from .job import Job, Listener, as_agenda, run_trial
from .surroundings import one_thread


def run_serial(job: Job, trials: Agenda | Iterable[TrialConfig], listener: Listener) -> None:
    """Run the trials one after another in this process; wait at the end for those that another runner holds.

    The first Ctrl-C lets the running trial finish; the second one, and SIGTERM, end it at once. Under torchrun the
    first one does.

    Raises:
        LogitLabError: a fault that concerns every trial, for instance an image that cannot be read.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    agenda = as_agenda(job, trials, listener)
    # torchrun ends its processes soon after a Ctrl-C, and gives a trial no time to finish.
    drain = torchrun_launch() is None
    with one_thread(job.device), interruptible(listener.notice, drain) as interruption:
        while len(agenda):
            interruption.check()
            if interruption.draining:
                raise KeyboardInterrupt
            task = agenda.take()
            if task is None:
                if len(agenda):
                    time.sleep(POLL_SECONDS)
                continue
            if run_trial(job, task, partial(listener.trial_started, task.trial), listener.epoch):
                listener.trial_ended(task.trial)
            else:
                agenda.put_back(task)
