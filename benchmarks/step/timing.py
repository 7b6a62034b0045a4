"""Time in rounds: every form once a round, so that a busy machine slows all of them, and ratios within a round."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping

import torch

from .form import Runnable

#: A form that takes this many times as long as the first one, in the warm-up round, joins every third round only.
SLOW = 3
#: Small shapes get more rounds, until the time is up or there are this many.
MOST_ROUNDS = 300


def clock() -> Callable[[], float]:
    """The processor time of this thread where one thread does all the work, else the time on the wall."""
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def interleave(forms: Mapping[str, Runnable], rounds: int, seconds: float) -> dict[str, list[float | None]]:
    """Run all forms in turn, in another order each round, after a round that warms up.

    Args:
        forms: what runs, by name; the first is the one that others are compared with.
        rounds: at least so many, and then more until ``seconds`` have passed.
        seconds: of wall time.

    Returns:
        Seconds of each form in each round; None where it sat out.
    """
    now = clock()

    def measure(run: Runnable) -> float:
        start = now()
        run()
        return now() - start

    warm = {name: measure(run) for name, run in forms.items()}
    limit = SLOW * next(iter(warm.values()))
    times: dict[str, list[float | None]] = {name: [] for name in forms}
    # What ran before leaves its traces in caches and free memory: nothing follows the same form every time.
    order, shuffle = list(forms), random.Random(0).shuffle
    begin, turn = time.perf_counter(), 0
    gc.collect()
    gc.disable()  # a collection would fall on whichever form runs just then
    try:
        while turn < rounds or (time.perf_counter() - begin < seconds and turn < MOST_ROUNDS):
            shuffle(order)
            for name in order:
                times[name].append(measure(forms[name]) if warm[name] <= limit or turn % 3 == 0 else None)
            turn += 1
    finally:
        gc.enable()
    return times
