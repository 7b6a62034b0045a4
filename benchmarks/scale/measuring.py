"""Gloo ranks take a step of ``ShardedHead``; what they hand over and multiply stands beside what was computed."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes
from torch.utils.flop_counter import FlopCounterMode

import logitlab as ll
from logitlab.functional.blockwise import forward, search
from logitlab.functional.blockwise import ranks as exchanging
from logitlab.heads.sharded import ShardedHead

from . import memory, protocol
from .protocol import Looked
from .roofline import products
from .setting import Setting
from .tables import markdown, number

ROWS, CLASSES, FEATURES = 16, 301, 24


class Case(NamedTuple):
    """One step.

    Attributes:
        name: in the table.
        least_squares: whether κ* is searched for.
        looks: whether values may be read, as on a CPU.
        dtype: of features and weight.
        keep: whether the scores are kept.
    """

    name: str
    least_squares: bool
    looks: bool = True
    dtype: torch.dtype = torch.float32
    keep: bool = True


CASES = (
    Case("fixed κ", False),
    Case("fixed κ, scores not kept, bfloat16", False, dtype=torch.bfloat16, keep=False),
    Case("least squares, looking at values", True),
    Case("least squares, as on a GPU", True, looks=False),
    Case("least squares, as on a GPU, scores not kept, bfloat16", True, False, torch.bfloat16, False),
)


class Measured(NamedTuple):
    """What one rank did.

    Attributes:
        case: its name.
        traffic: (name, operation, numbers, bytes) of each exchange.
        operations: of its products.
        owned: samples of all ranks whose targets it has.
        classes: that it has.
    """

    case: str
    traffic: list[tuple[str, str, int, int]]
    operations: int
    owned: int
    classes: int


def one_rank(rank: int, ranks: int) -> list[Measured]:
    """All cases on one rank of the default group."""
    every = torch.randint(CLASSES, (ranks, ROWS), generator=torch.Generator().manual_seed(1))
    # The first ranks have a class more: said again here, not asked of what is measured.
    classes = torch.arange(CLASSES).tensor_split(ranks)[rank]
    owned = int(torch.isin(every, classes).sum())
    found = []
    for case in CASES:
        torch.manual_seed(0)
        scale: dict[str, Any] = {"temperature": "least_squares"} if case.least_squares else {"kappa": 16.0}
        head = ShardedHead(ll.create_head("cosface", FEATURES, CLASSES, **scale), dtype=case.dtype)
        if not case.looks or case.dtype == torch.bfloat16:
            head.uneven_batches = False
        generator = torch.Generator().manual_seed(2 + rank)
        features = torch.randn(ROWS, FEATURES, generator=generator).to(case.dtype).requires_grad_()
        patched = mock.patch.object(forward, "keep_scores", return_value=case.keep)
        blind = [mock.patch.object(module, "values_at_hand", return_value=False) for module in (search, exchanging)]
        # As large as a batch would be there.
        blind.append(mock.patch.object(search, "EXHAUSTIVE", 0))
        in_place: dict[Any, Any] = {torch.ops.aten.addmm_: _operations}
        with patched, FlopCounterMode(display=False, custom_mapping=in_place) as counter:
            if not case.looks:
                for patch in blind:
                    patch.start()
            try:
                head(features, every[rank]).backward()
            finally:
                mock.patch.stopall()
        traffic = [(each.what, each.operation, each.elements, each.bytes) for each in head.traffic]
        found.append(Measured(case.name, traffic, counter.get_total_flops(), owned, head.classes.number))
    return found


#: Many samples and few classes: what the samples take, on a CPU in float32.
MANY_ROWS, FEW_CLASSES, WIDE = 1024, 64, 512
MEMORY_TOLERANCE = 0.2


def peaks_of_one_rank(rank: int, ranks: int) -> list[int]:
    """Bytes that torch had allocated at once in a step with a fixed κ, and in one with least squares as on a GPU."""
    found = []
    for scale in ({"kappa": 16.0}, {"temperature": "least_squares"}):
        head = ShardedHead(ll.create_head("cosface", WIDE, FEW_CLASSES, **scale), uneven_batches=False)
        generator = torch.Generator().manual_seed(rank)
        features = torch.randn(MANY_ROWS, WIDE, generator=generator).requires_grad_()
        target = torch.randint(FEW_CLASSES, (MANY_ROWS,), generator=generator)
        cpu = [torch.profiler.ProfilerActivity.CPU]
        gc.collect()  # of the step before, or it would be freed within this one
        with (
            mock.patch.object(search, "values_at_hand", return_value=False),
            mock.patch.object(exchanging, "values_at_hand", return_value=False),
            mock.patch.object(search, "EXHAUSTIVE", 0),
            torch.profiler.profile(activities=cpu, profile_memory=True) as profile,
        ):
            head(features, target).backward()
        assert profile.profiler is not None
        assert profile.profiler.kineto_results is not None
        now = peak = 0
        for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
            if event.name() == "[memory]":
                now += event.nbytes()
                peak = max(peak, now)
        found.append(peak)
    return found


def expected_peaks(ranks: int) -> list[float]:
    """The same, computed: the weight is an input, its gradient is not."""
    each = []
    for searched in (False, True):
        setting = Setting(ranks, MANY_ROWS, FEW_CLASSES, WIDE, searched, operand=4, weight=4, state=0, keep=True)
        each.append(memory.rows(setting) + memory.scores(setting) + memory.state(setting) / 2)
    return each


def _operations(into: torch.Size, left: torch.Size, right: torch.Size, **_: Any) -> int:
    """Of a product that is added to a matrix in place, which torch's counter does not know."""
    return 2 * left[0] * left[1] * right[1]


def expected(case: Case, ranks: int, found: Measured) -> tuple[list[tuple[str, str, float, float]], float]:
    """The exchanges and the operations that the model says, given what the values of the batch decided."""
    setting = Setting(
        ranks,
        ROWS,
        CLASSES,
        FEATURES,
        case.least_squares,
        operand=case.dtype.itemsize,
        weight=case.dtype.itemsize,
        keep=case.keep,
    )
    numbers = {what: elements for what, _, elements, _ in found.traffic}
    tried = [elements for what, _, elements, _ in found.traffic if what == "a κ to try"]
    asking = numbers.get("directions across the features", 0) // FEATURES
    slots = numbers.get("κ to rule out", 0) // max(asking, 1)
    looked = Looked(found.owned, slots, asking, tuple(tried)) if case.looks else None
    model = protocol.exchanges(setting, looked)
    if case.looks and case.dtype == torch.bfloat16:
        model = model[1:]  # as many samples on each rank, by what the head was told
    said = [
        (each.what, each.operation, each.handed(ranks, ROWS), each.handed(ranks, ROWS) * each.width) for each in model
    ]
    counts = products(setting)
    if case.looks and case.least_squares:
        counts = counts._replace(combine=1 + sum(tried) / ROWS, direction=asking / ROWS)
    return said, sum(counts) * 2 * ranks * ROWS * found.classes * FEATURES


def differences(case: Case, ranks: int, found: Measured) -> list[str]:
    """Where a rank did something else than the model says."""
    said, operations = expected(case, ranks, found)
    faults = []
    for one, other in zip(found.traffic, said):
        if one != other:
            faults.append(f"{case.name}, {ranks} ranks: expected {other}, got {one}")
    if len(found.traffic) != len(said):
        faults.append(f"{case.name}, {ranks} ranks: expected {len(said)} exchanges, got {len(found.traffic)}")
    if abs(found.operations / operations - 1) > 1e-9:
        faults.append(f"{case.name}, {ranks} ranks: expected {operations} operations, got {found.operations}")
    return faults


def _run(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", meeting, rank=rank, world_size=ranks, timeout=timedelta(seconds=120))
    Path(folder, f"{rank}").write_bytes(pickle.dumps((one_rank(rank, ranks), peaks_of_one_rank(rank, ranks))))
    dist.barrier()
    dist.destroy_process_group()


def measure(ranks: int) -> list[tuple[list[Measured], list[int]]]:
    """What each rank did, and its peaks of memory; each is a process of its own."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        # Forks of a process that has imported everything once and run nothing.
        multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])
        start_processes(_run, (ranks, folder), ranks, start_method="forkserver")  # type: ignore[no-untyped-call]
        return [pickle.loads(Path(folder, f"{rank}").read_bytes()) for rank in range(ranks)]


def report(sizes: Sequence[int] = (2, 3, 4)) -> tuple[str, list[str]]:
    """Two tables, a row a step, and what differs."""
    rows, peaks, faults = [], [], []
    for ranks in sizes:
        by_rank = measure(ranks)
        for case, *found in zip(CASES, *(measured for measured, _ in by_rank)):
            faults += [fault for each in found for fault in differences(case, ranks, each)]
            said = [expected(case, ranks, each) for each in found]
            row = [str(ranks), case.name, str(len(found[0].traffic))]
            row.append(f"{sum(part[3] for each in found for part in each.traffic):,}")
            row.append(f"{sum(part[3] for exchanges, _ in said for part in exchanges):,.0f}")
            whole = 2 * ranks * ROWS * FEATURES * CLASSES
            row.append(number(sum(one.operations for one in found) / whole))
            row.append(number(sum(operations for _, operations in said) / whole))
            rows.append(row)
        highest = [max(each) for each in zip(*(peak for _, peak in by_rank))]
        for name, peak, computed in zip(("fixed κ", "least squares, as on a GPU"), highest, expected_peaks(ranks)):
            peaks.append([str(ranks), name, f"{peak / 2**20:.0f}", f"{computed / 2**20:.0f}"])
            if abs(peak / computed - 1) > MEMORY_TOLERANCE:
                faults.append(f"{name}, {ranks} ranks: expected {computed:,.0f} bytes at the peak, got {peak:,}")
    head = ["ranks", "step", "exchanges", "bytes handed over, measured", "computed", "products, measured", "computed"]
    tables = [
        f"{ROWS} samples a rank, {CLASSES} classes, D = {FEATURES}; sums over the ranks:",
        markdown(head, rows),
        f"{MANY_ROWS} samples a rank, {FEW_CLASSES} classes, D = {WIDE}, float32; the highest of the ranks:",
        markdown(["ranks", "step", "MiB allocated, measured", "computed"], peaks),
    ]
    return "\n\n".join(tables), faults
