"""How many workers fit into memory. No torch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

#: What a worker is taken to need before one was measured, at least: Python, torch and scikit-learn take 0.4 to 0.6 GB,
#: and a small trial stays below this.
LEAST_ESTIMATE: Final = 2**30

#: The share of memory that is left to everybody else: an estimate from the past may fall short.
RESERVE: Final = 0.1

_CGROUPS: Final = Path("/sys/fs/cgroup")
_SECONDS_BETWEEN_LOOKS: Final = 1.0


class MemoryGauge:
    """Says how many workers fit, by what they were seen to need.

    Attributes:
        need: what a worker needs, in bytes: the most that one has held; before the first has said it, an estimate.

    Args:
        available: returns how many bytes can still be had.
        resident: returns how many bytes the process of a number holds.
        estimate: what a worker needs, for a start. None for what this process holds, which has imported the same
            libraries and looked at the same images; at least ``LEAST_ESTIMATE``.
    """

    def __init__(
        self,
        available: Callable[[], int] | None = None,
        resident: Callable[[int], int] | None = None,
        estimate: int | None = None,
    ) -> None:
        self._available = available or available_memory
        self._resident = resident or resident_memory
        self.need = max(LEAST_ESTIMATE, self._resident(os.getpid())) if estimate is None else estimate
        self._measured = False
        self._until = 0.0
        self._fitting = 1

    def learn(self, peak: int) -> None:
        """Take in what a worker says that it has held at most, in bytes; 0 says nothing."""
        if peak > 0:
            need = max(peak, self.need) if self._measured else peak
            if need != self.need:
                self.need, self._until = need, 0.0
            self._measured = True

    def fitting(self, workers: Iterable[int]) -> int:
        """Return how many workers fit in all, at least 1; looked up once a second.

        Args:
            workers: numbers of the processes that run already; what they hold is theirs.
        """
        if time.monotonic() >= self._until:
            self._until = time.monotonic() + _SECONDS_BETWEEN_LOOKS
            held = [self._resident(worker) for worker in workers]
            self._fitting = workers_that_fit(self._available(), held, self.need)
        return self._fitting

    def why(self) -> str:
        """Say what decides, for a sentence."""
        return f"{_gigabytes(self._available())} GB are free and a trial takes about {_gigabytes(self.need)} GB"


def workers_that_fit(available: int, held: Iterable[int], need: int) -> int:
    """Return how many workers there may be in all, at least 1.

    Args:
        available: bytes that can still be had; a tenth of them is left to others.
        held: bytes that each worker holds already; one that holds less than it will need has claim to the rest.
        need: bytes that a worker needs.

    >>> workers_that_fit(10_000, [], 1000), workers_that_fit(10_000, [1000, 500], 1000), workers_that_fit(100, [], 1000)
    (9, 10, 1)
    """
    return max(1, (int(available * (1 - RESERVE)) + sum(held)) // max(need, 1))


def available_memory(cgroups: Path = _CGROUPS, process: Path = Path("/proc/self/cgroup")) -> int:
    """Return how many bytes this process may still take: of the machine's, or of its container's or job's.

    Args:
        cgroups: where the limits of groups of processes stand, of either version.
        process: names the groups of this process.
    """
    import psutil  # type: ignore[import-untyped]

    machine = int(psutil.virtual_memory().available)
    return min([machine, *_group_limits(cgroups, process)])


def resident_memory(process: int) -> int:
    """Return how many bytes a process holds; 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(process).memory_info().rss)
    except psutil.Error:
        return 0


def peak_memory() -> int:
    """Return the most that this process has held since it started, in bytes.

    The system's own count (``ru_maxrss``) goes on from that of the parent, which may hold far more.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident_memory(os.getpid())


def _group_limits(cgroups: Path, process: Path) -> list[int]:
    """Return what is left in each group of processes that this one belongs to, those above it included."""
    try:
        lines = process.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            base, limit, usage, reclaimable = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit, usage, reclaimable = (
                cgroups / "memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        # Inside a container the path is often that of the host, and the group's own files stand at the top.
        folder = base.joinpath(*Path(path).parts[1:])
        for place in dict.fromkeys([folder, *folder.parents]):
            if place.is_relative_to(base):
                left = _left(place / limit, place / usage, place / "memory.stat", reclaimable)
                found.extend([] if left is None else [left])
    return found


def _left(limit: Path, usage: Path, statistics: Path, reclaimable: str) -> int | None:
    """Return limit − usage, the files that the system would drop not counted; None where there is no limit."""
    try:
        most, used = int(limit.read_text()), int(usage.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    try:
        for line in statistics.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == reclaimable:
                used -= int(value)
    except (OSError, ValueError):
        pass
    return max(0, most - max(0, used))


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f}"
