"""The stage ``timing``: how long a training step takes, and how much of it the choice of κ is (TS Table 11).

The one stage whose numbers differ from run to run: it measures the machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from logitlab.analysis import UndefinedError
from logitlab.functional import normalize
from logitlab.functional.least_squares import KAPPA_CANDIDATES, projection_energy
from logitlab.heads import Classifier, Head
from logitlab.models.checkpoint import read_description
from logitlab.records.stages import CONVENTION
from logitlab.records.study import StageSource

from ..optimizer import create_optimizer
from .context import StageContext
from .options import TimingOptions
from .validated import validated

#: What runs before anything is timed: memory is taken, kernels are chosen.
WARM_UP: Final = 3


def timing(context: StageContext, source: StageSource) -> dict[str, Any]:
    """Time a step on random images of the trial's shape and batch size, and the two halves of the search for κ*.

    The model is built anew from its checkpoint, and thrown away. A step is forward, loss, backward and optimiser, as
    the recipe has them, with a learning rate of zero: the same work, and weights that stay finite on such images.
    Drawing and augmenting images, Mixup and clipping are no part of it. The search is the one that the paper writes
    down: the energies of all candidates by T Eq. (10), from the cosines that the step has at hand, then the smallest;
    what the library does in training finds the same with less work.

    Returns:
        medians in milliseconds: ``step_ms``, ``energies_ms`` (E_κ of all candidates for the batch) and ``argmin_ms``,
        the last two None for a head without cosines; ``batch_size``, ``candidates``, and the convention with device
        and threads.
    """
    options = validated(TimingOptions, source)
    model = context.load_model()
    images, labels = _random_batch(context, model)

    def time_of(work: Callable[[], object]) -> float:
        return median_ms(work, options.repeats, context.device)

    found: dict[str, Any] = {"step_ms": time_of(_step(context, model, images, labels))}
    device = context.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    convention = (
        f"milliseconds, median of {options.repeats} after {WARM_UP} to warm up, on {where} with "
        f"{torch.get_num_threads()} threads"
    )
    try:
        unit_features, unit_weight, cosine, candidates = _search_inputs(model, images)
    except UndefinedError as fault:
        found |= {"energies_ms": None, "argmin_ms": None, "candidates": None}
        convention += f"; search undefined: {fault}"
    else:

        def energies() -> Tensor:
            return torch.stack([projection_energy(unit_features, unit_weight, each, cosine) for each in candidates])

        def smallest() -> Tensor:
            return values[computed.argmin(dim=0)]

        with torch.no_grad():
            found["energies_ms"] = time_of(energies)
            computed, values = energies(), torch.tensor(candidates, device=device)
            found["argmin_ms"] = time_of(smallest)
        found["candidates"] = len(candidates)
    return {**found, "batch_size": len(images), CONVENTION: convention}


def median_ms(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the median of the milliseconds that something takes, on a GPU until it is done there.

    Args:
        work: what is timed.
        repeats: how often; ``WARM_UP`` more come before.
        device: where it works.
    """
    taken: list[float] = []
    for _ in range(WARM_UP + repeats):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[WARM_UP:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _random_batch(context: StageContext, model: Classifier) -> tuple[Tensor, Tensor]:
    """Draw pixels as they are after normalisation, and labels."""
    description = read_description(context.folder)
    count = context.trial.training.batch_size
    generator = torch.Generator().manual_seed(context.seed % 2**63)
    shape = (count, description.channels, description.image_size, description.image_size)
    images = torch.randn(shape, generator=generator).to(context.device, memory_format=torch.channels_last)
    labels = torch.randint(model.num_classes, (count,), generator=generator)
    return images, labels.to(context.device)


def _step(context: StageContext, model: Classifier, images: Tensor, labels: Tensor) -> Callable[[], object]:
    """Return a step of training; the backbone stays as it is where the trial froze it."""
    recipe = context.trial.training
    model.train()
    if recipe.freeze_backbone:
        model.backbone.requires_grad_(False).eval()
    optimizer = create_optimizer(model, recipe)
    for group in optimizer.param_groups:
        group["lr"] = 0.0

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss, _ = model(images, labels, return_logits=True)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _search_inputs(model: Classifier, images: Tensor) -> tuple[Tensor, Tensor, Tensor, tuple[float, ...]]:
    """Return unit features, unit weights, their cosines and the candidates, as the head has them in a step.

    Raises:
        UndefinedError: the head has no cosine a class.
    """
    head = model.head
    if not isinstance(head, Head) or head.classifier != "cosine" or head.centers > 1:
        raise UndefinedError("the head has no cosine of one weight a class.")
    with torch.no_grad():
        unit_features, unit_weight = normalize(model.features(images).float()), normalize(head.weight.float())
        cosine = unit_features @ unit_weight.T
    candidates = getattr(head.temperature, "candidates", None) or KAPPA_CANDIDATES
    return unit_features, unit_weight, cosine, tuple(candidates)
