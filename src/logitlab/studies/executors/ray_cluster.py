"""The executor ``ray``: every trial a task of Ray Core, on a cluster (RAY_ADDRESS) or on one made for this study.

Tasks carry a trial and paths, nothing else; records are written to the folder that all machines share. What Ray would
repeat by itself is repeated here instead, so that attempts are counted and told.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from ...config.errors import LogitLabError
from ...config.study import ExecutionConfig
from ...config.trial import TrialConfig
from ..agenda import Agenda, Task
from ..interruption import interruptible
from .job import Job, Listener, bury
from .ray_connection import cluster, import_ray
from .run_folder import Inbox, RunFolder, fault_of, hand_on, written_fault
from .surroundings import search_path
from .travelling import Journey, prepare_journey, run_and_tell, unseen

_LOOK_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 5.0
_SECONDS_BETWEEN_COUNTS: Final = 5.0
_SECONDS_FOR_A_NODE: Final = 60.0


def run_on_ray(job: Job, agenda: Agenda, listener: Listener, execution: ExecutionConfig) -> None:
    """Run the trials as tasks of Ray.

    Each task takes one core (``processes_per_trial`` of them where there are more) and ``gpus_per_trial``. No more
    tasks are handed to Ray than it can run soon. A task whose process or machine dies is tried again, up to
    ``attempts`` in all; the claim of a machine that is gone is stale after a minute. The first Ctrl-C lets the running
    trials finish; the second one, and SIGTERM, cancel them. A cluster that was made here is ended here.

    Args:
        job: what all trials share.
        agenda: the trials.
        listener: receives the events.
        execution: how they are delivered.

    Raises:
        ConfigurationError: Ray is not installed.
        LogitLabError: a fault that concerns every trial, a machine that does not see the folder, or a cluster that
            cannot be reached.
        OSError: the file system takes no more records.
        KeyboardInterrupt: the user ended the study before its last trial.
    """
    ray = import_ray()
    run = RunFolder.make(job.root)
    # A signal only leaves a mark: raised in the middle of this bookkeeping it could be lost, or a task with it.
    with interruptible(listener.notice, at_once=False) as interruption:
        try:
            with cluster(ray, job, execution, interruption):
                delivery = _Delivery(ray, job, run, agenda, listener, execution)
                delivery.check_nodes()
                try:
                    while delivery.has_work():
                        interruption.check()
                        if interruption.draining:
                            delivery.drain()
                            if not delivery.running:
                                raise KeyboardInterrupt
                        else:
                            delivery.submit()
                        delivery.listen()
                finally:
                    delivery.end()
        except ray.exceptions.RayError as fault:
            first = (str(fault).strip() or type(fault).__name__).splitlines()[0]
            raise LogitLabError(f"The cluster of Ray does not answer any more: {first}") from fault
        finally:
            run.remove()


class _Delivery:
    """The tasks of one study.

    Attributes:
        running: handed to Ray and not ended: reference → trial.
    """

    def __init__(
        self, ray: Any, job: Job, run: RunFolder, agenda: Agenda, listener: Listener, execution: ExecutionConfig
    ) -> None:
        self.running: dict[Any, Task] = {}
        self._ray = ray
        self._job = job
        self._run = run
        self._agenda = agenda
        self._listener = listener
        self._execution = execution
        self._inbox = Inbox(run)
        self._trials: dict[str, TrialConfig] = {}
        # Identity → where its process runs, of the trials that have begun.
        self._places: dict[str, tuple[str, int]] = {}
        self._drained = False
        gpus = job.device.startswith("cuda")
        self._cores = execution.processes_per_trial
        share = execution.gpus_per_trial if execution.gpus_per_trial is not None else float(gpus * self._cores)
        self._share = share
        # Ray shows a task its own GPUs alone, numbered from 0.
        self._journey = prepare_journey(replace(job, device="cuda") if gpus else job, run)
        # Ray takes a task's arguments apart before the task could say where its modules lie.
        self._paths, self._sent = search_path().split(os.pathsep), pickle.dumps(self._journey)
        self._task = ray.remote(num_cpus=self._cores, num_gpus=share, max_retries=0)(_run_there)
        self._window = 1
        self._told = False
        self._counted = -_SECONDS_BETWEEN_COUNTS

    def has_work(self) -> bool:
        """Whether any trial waits or runs."""
        return bool(self._agenda) or bool(self.running)

    def check_nodes(self) -> None:
        """See that every machine of the cluster sees the folder of the records.

        Raises:
            LogitLabError: some do not.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = self._ray.remote(num_cpus=0, max_retries=3)(_sees)
        asked = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                self._run
            ): node["NodeManagerAddress"]
            for node in self._ray.nodes()
            if node["Alive"]
        }
        answered, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=_SECONDS_FOR_A_NODE)
        blind = []
        for reference in answered:
            # A node that is lost at this moment is none of those that matter.
            with suppress(self._ray.exceptions.RayError):
                if not self._ray.get(reference):
                    blind.append(asked[reference])
        if blind:
            raise LogitLabError(unseen(self._job.root.resolve(), sorted(set(blind))))

    def submit(self) -> None:
        """Hand over as many trials as can run soon."""
        if time.monotonic() - self._counted >= _SECONDS_BETWEEN_COUNTS:
            self._counted = time.monotonic()
            slots = int(self._ray.cluster_resources().get("CPU", 0)) // self._cores
            # A few more than run, so that no core waits for this loop, and a cluster that can grow sees why.
            self._window = self._execution.workers or 2 * max(1, slots) + 2
            self._see_room()
        while len(self.running) < self._window and (task := self._agenda.take()) is not None:
            self._trials[task.trial.identity] = task.trial
            self.running[self._task.remote(self._paths, self._sent, task)] = task

    def _see_room(self) -> None:
        """Say once that the trials wait for a machine that can hold one: Ray itself waits in silence."""
        nodes = [node.get("Resources", {}) for node in self._ray.nodes() if node["Alive"]]
        if self._told or can_hold(nodes, self._cores, self._share):
            return
        self._told = True
        most = {kind: max((float(node.get(kind, 0)) for node in nodes), default=0.0) for kind in ("CPU", "GPU")}
        self._listener.notice(
            f"No machine of the cluster can hold a trial, which needs {self._cores} cores and {self._share:g} GPUs; "
            f"the most that one has is {most['CPU']:g} cores and {most['GPU']:g} GPUs. The study waits for a larger "
            "machine; otherwise press Ctrl-C and lower gpus_per_trial or processes_per_trial."
        )

    def drain(self) -> None:
        """Take back what waits in Ray's own queue; what has begun goes on."""
        self._run.stop()
        if self._drained:
            return
        self._drained = True
        self._read()
        for reference, task in self.running.items():
            if task.trial.identity not in self._places:
                self._ray.cancel(reference, force=False)

    def listen(self) -> None:
        """Wait a moment, and take in what has come."""
        if not self.running:
            # What other runners hold.
            time.sleep(_LOOK_SECONDS)
            return
        ready, _ = self._ray.wait(list(self.running), num_returns=len(self.running), timeout=_LOOK_SECONDS)
        self._read()
        for reference in ready:
            self._take_in(reference, self.running.pop(reference))

    def end(self) -> None:
        """Cancel what runs, politely and then not."""
        for force in (False, True):
            for reference in self.running:
                with suppress(Exception):
                    self._ray.cancel(reference, force=force)
            if self.running:
                with suppress(Exception):
                    left = list(self.running)
                    ready, _ = self._ray.wait(left, num_returns=len(left), timeout=_GRACE_SECONDS)
                    for reference in ready:
                        del self.running[reference]

    def _read(self) -> None:
        for news in self._inbox.news():
            if news.kind == "started":
                self._places[news.identity] = news.host, news.pid
            hand_on(news, self._trials.get, self._listener)

    def _take_in(self, reference: Any, task: Task) -> None:
        """See how a task ended."""
        errors = self._ray.exceptions
        identity = task.trial.identity
        del self._trials[identity]
        place = self._places.pop(identity, None)
        try:
            outcome = self._ray.get(reference)
        except errors.TaskCancelledError:
            self._agenda.put_back(task)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as fault:
            memory = isinstance(fault, errors.OutOfMemoryError)
            how = "was ended by Ray because memory ran out" if memory else "was killed"
            self._bury(task, how, place)
        except errors.RayTaskError as fault:
            # What the task raises itself comes home as its outcome: it could not even begin.
            last = str(fault).strip().splitlines()[-1]
            raise LogitLabError(f"A task of Ray cannot begin: {last}") from None
        except errors.RayError:
            self._bury(task, "was lost with its machine", place)
        else:
            if isinstance(outcome, dict):
                raise fault_of(outcome)
            if outcome:
                self._listener.trial_ended(task.trial)
            else:
                self._agenda.put_back(task)

    def _bury(self, task: Task, how: str, place: tuple[str, int] | None) -> None:
        bury(self._job, task, how, self._execution.attempts, self._agenda, self._listener, place)


def _run_there(paths: list[str], sent: bytes, task: Task) -> bool | dict[str, Any]:
    """Run one trial in a worker of Ray; the outcome of `run_and_tell`, or a fault that concerns every trial.

    Args:
        paths: where the runner finds modules; what is not found here otherwise may be there.
        sent: the `Journey`.
        task: the trial.
    """
    sys.path.extend(path for path in paths if path not in sys.path)
    try:
        journey: Journey = pickle.loads(sent)
        if journey.run.is_seen() and journey.run.is_stopped():
            return False
        return run_and_tell(journey.arrive(), task, journey.run.poster())
    except KeyboardInterrupt:  # so Ray cancels a task
        return False
    except Exception as fault:
        return written_fault(fault)


def can_hold(nodes: Iterable[Mapping[str, float]], cores: int, gpus: float) -> bool:
    """Whether any machine has what one trial needs.

    >>> can_hold([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}], 2, 0.5)
    False
    """
    return any(node.get("CPU", 0) >= cores and node.get("GPU", 0) >= gpus for node in nodes)


def _sees(run: RunFolder) -> bool:
    return run.is_seen()
