"""What a job of Slurm does: it goes through a list of trials, and marks which of them it has begun."""

from __future__ import annotations

import json
import os
import pickle
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...records import Store
from ..agenda import Agenda, Task
from .travelling import CutOffError, Journey, leaving_when_told, run_and_tell


@dataclass(frozen=True)
class Begun:
    """Who began a trial.

    Attributes:
        label: of the job.
        place: host and number of its process.
    """

    label: str
    place: tuple[str, int]


def work_through(journey: Journey, tasks: Path, start: int, label: str) -> None:
    """Run the trials of a list that nobody else runs: what a job does.

    Args:
        journey: what the runner sent.
        tasks: file of the list.
        start: where in it this job begins.
        label: what the runner calls it.

    Raises:
        DataError: an image cannot be read; the other trials would meet it as well.
        OSError: the disk takes no record.
        LogitLabError: this machine does not see the folder of the records, or cannot import a plugin.
    """
    poster = journey.run.poster(label)
    # Whoever is cut off ends like one that has nothing left to do: of a job without a result the cluster's books tell
    # late. Who is to run again leaves by the exception.
    with leaving_when_told(), suppress(CutOffError):
        try:
            job = journey.arrive()
            everything: list[Task] = pickle.loads(tasks.read_bytes())
            agenda = Agenda((), Store(job.root), lambda trial: None, lambda text: None)
            agenda.adopt([*everything[start:], *everything[:start]])
            # What others hold at the end is theirs: the runner sees to it, and this job makes room.
            while not journey.run.is_stopped() and (task := agenda.take()) is not None:
                # What a job that died has begun is the runner's to count: it might kill one job after another.
                mark = mark_of(tasks, task.trial.identity)
                if not _begin(mark, label):
                    continue
                try:
                    ended = run_and_tell(job, task, poster)
                except SystemExit:
                    # The claim is given back, and whoever comes next goes on.
                    mark.unlink(missing_ok=True)
                    poster.say("left", task.trial.identity)
                    raise
                if not ended:
                    mark.unlink(missing_ok=True)
        except Exception as fault:
            poster.fault(fault)
            raise


def mark_of(tasks: Path, identity: str) -> Path:
    """Return the file that says which job of a list has begun a trial."""
    return tasks.with_suffix(f".{identity}")


def who_began(mark: Path) -> Begun | None:
    """Return which job has begun a trial, and neither ended nor left it; None for none."""
    try:
        label, host, pid = json.loads(mark.read_text(encoding="utf-8"))
        return Begun(str(label), (str(host), int(pid)))
    except (OSError, ValueError, TypeError):
        return None


def _begin(mark: Path, label: str) -> bool:
    """Mark a trial as begun; False when another job has begun it.

    A job that Slurm put into the queue again finds its own mark, and goes on.

    Raises:
        OSError: the file system refuses.
    """
    content = json.dumps([label, socket.gethostname(), os.getpid()])
    try:
        with mark.open("x", encoding="utf-8") as file:
            file.write(content)
    except FileExistsError:
        found = who_began(mark)
        if found is None or found.label != label:
            return False
        with suppress(OSError):
            mark.write_text(content, encoding="utf-8")
    return True
