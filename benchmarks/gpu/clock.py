"""Times on a device: events around each step, the forms in turn, the cache emptied before each.

A step is timed from an idle queue: launches that the device must wait for are part of its time, as they are in a
program that takes one step after the other. What they cost is the difference to a step replayed from a CUDA graph.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .machine import wait

#: A step that takes longer is measured once, in its warm-up.
LONGEST = 2.0


class Clock:
    """Seconds of one run on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._elsewhere: Tensor | None = None
        if device.type == "cuda":
            cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 2**26)
            self._elsewhere = torch.empty(4 * int(cache), dtype=torch.int8, device=device)

    def __call__(self, run: Callable[[], object]) -> float:
        if self._elsewhere is None:
            begin = time.perf_counter()
            run()
            return time.perf_counter() - begin
        begin_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._elsewhere.zero_()
        wait(self.device)
        begin_event.record()
        run()
        end_event.record()
        end_event.synchronize()
        return begin_event.elapsed_time(end_event) / 1e3


@dataclass
class Times:
    """Seconds of each form in each round, in the order of the rounds.

    Attributes:
        rounds: every form once a round.
    """

    rounds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        return statistics.median(self.rounds[name]) if self.rounds.get(name) else None

    def spread(self, name: str) -> float:
        """Half of the distance between the quartiles, of the median: what half of the rounds stay within."""
        seconds = self.rounds[name]
        if len(seconds) < 2:
            return 0.0
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return (high - low) / 2 / middle

    def ratio(self, name: str, base: str) -> float | None:
        """The median of the ratios within a round."""
        if not self.rounds.get(name) or not self.rounds.get(base):
            return None
        return statistics.median(one / other for one, other in zip(self.rounds[name], self.rounds[base]))


def in_turn(
    forms: Mapping[str, Callable[[], object]], clock: Clock, deadline: float, least: int = 3, most: int = 50
) -> Times:
    """Run all forms in turn, in another order each round, until a deadline.

    Args:
        forms: what runs, by name, warmed up already.
        clock: of the device.
        deadline: by ``time.monotonic``; ``least`` rounds are taken even after it.
        least: rounds at least.
        most: rounds at most.
    """
    times = Times({name: [] for name in forms})
    order, shuffle = list(forms), random.Random(0).shuffle
    gc.collect()
    gc.disable()  # a collection would fall on whichever form runs just then
    try:
        for turn in range(most):
            if turn >= least and time.monotonic() > deadline:
                break
            shuffle(order)
            for name in order:
                times.rounds[name].append(clock(forms[name]))
    finally:
        gc.enable()
    return times


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The most that a run holds at once above what was allocated before it; None off the GPU."""
    if device.type != "cuda":
        return None
    wait(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    wait(device)
    return torch.cuda.max_memory_allocated(device) - before


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """The same run as a replay of a CUDA graph.

    Raises:
        RuntimeError: a graph cannot hold it, for instance because it looks at a value.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
