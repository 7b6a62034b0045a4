"""Two processes give the gradients of one: one start of processes for many heads."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from logitlab.config.errors import ParameterError

from .case import Case, Factory, in_features, same_gradients
from .report import CheckFailed, HeadCheckError, HeadReport
from .traits import HeadTraits, traits_of

_RANKS = 2


def check_heads_distributed(
    factories: Mapping[str, Factory], *, traits: Mapping[str, HeadTraits] | None = None, seed: int = 0
) -> dict[str, HeadReport]:
    """Check that ``DistributedDataParallel`` on two gloo processes gives the gradients of one process.

    Two forward passes before one backward pass, in float64, each process with half of a batch. The processes start
    once for all heads. A stochastic head is compared in evaluation mode, as are those whose samples depend on their
    batch.

    Args:
        factories: by a name for the message; picklable (``functools.partial`` of a function of a module).
        traits: instead of those that a head declares or that follow from its parts, by the same names.
        seed: of weights and inputs.

    Returns:
        A report a head.

    Raises:
        HeadCheckError: by name, what differs and by how much.
        ParameterError: this torch cannot do it, or a factory cannot be sent to another process.
    """
    if not torch.distributed.is_available():
        raise ParameterError("check_heads_distributed needs torch.distributed, which this build of torch lacks.")
    cases = {name: _case(factory, (traits or {}).get(name), seed) for name, factory in factories.items()}
    faults = [fault for name, factory in factories.items() if (fault := _unsendable(name, factory))]
    if faults:
        raise ParameterError(faults)
    failures, reports = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        # Without what traits may hold beside numbers: functions, which a process cannot be sent.
        jobs = [(case.factory, replace(case.traits, kappa_energy=None)) for case in cases.values()]
        spawn(_work, args=(folder, jobs, seed), nprocs=_RANKS)  # type: ignore[no-untyped-call]
        for index, (name, case) in enumerate(cases.items()):
            together: Any = torch.load(Path(folder, f"{index}.pt"), weights_only=True)
            try:
                _compare(case, together)
            except CheckFailed as error:
                failures[name] = str(error)
            reports[name] = HeadReport(name, ("distributed",))
    if failures:
        raise HeadCheckError("At least one head", failures, "check_heads_distributed({{{name!r}: factory}})")
    return reports


def _case(factory: Factory, traits: HeadTraits | None, seed: int) -> Case:
    if traits is None:
        with torch.random.fork_rng(devices=[]):
            traits = traits_of(factory(in_features(HeadTraits()), 11))
    return Case(factory, traits, seed)


def _unsendable(name: str, factory: Factory) -> str | None:
    try:
        pickle.dumps(factory)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (
            f"The factory '{name}' cannot be sent to another process ({first}). Give a function of a module, or a "
            "functools.partial of one, instead of a lambda or a function within a function."
        )
    return None


def _compare(case: Case, together: dict[str, Tensor] | str) -> None:
    """Compare the gradients of two processes, or what went wrong there, with those of one."""
    if isinstance(together, str):
        raise CheckFailed(together)
    head = case.head(training=case.modes(alone=True)[0])
    same_gradients(together, _gradients(case, head), "two processes against one", rtol=1e-8)


def _gradients(case: Case, model: nn.Module, rank: int | None = None) -> dict[str, Tensor]:
    """Gradients of two passes; of one process's share of the batch, or of the whole."""
    features, target = case.batch(2 * _RANKS)
    if rank is not None:
        features, target = features.chunk(_RANKS)[rank], target.chunk(_RANKS)[rank]
    (model(features, target) + model(2 * features, target)).backward()
    head = model.module if isinstance(model, DistributedDataParallel) else model
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in head.named_parameters()
        if value.requires_grad
    }


def _work(rank: int, folder: str, jobs: list[tuple[Factory, HeadTraits]], seed: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=_RANKS)
    try:
        for index, (factory, traits) in enumerate(jobs):
            case = Case(factory, traits, seed)
            found: Any
            try:
                head = case.head(training=case.modes(alone=True)[0])
                found = _gradients(case, DistributedDataParallel(head), rank)
            except Exception as error:
                found = f"under DistributedDataParallel: {type(error).__name__}: {str(error).splitlines()[0][:200]}"
            if rank == 0:
                torch.save(found, Path(folder, f"{index}.pt"))
        torch.distributed.barrier()
    finally:
        torch.distributed.destroy_process_group()
