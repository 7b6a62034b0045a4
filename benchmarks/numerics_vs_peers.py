"""How often a head gives no finite number where the feature is a multiple of its class's weight.

For x = k W_y, x = -k W_y (‖x‖ from 0.1 to 1000, log-uniform) and x = 0 the table gives the share of rows whose loss or
gradient is NaN or infinite, of every head of the registry and of its peers; "W" marks a cell where the gradient of the
weight was not finite in some batch, which costs the whole model. Of much shorter features the true gradient, which
grows with κ/‖x‖, leaves the range of fp16: a GradScaler must see that infinity. Under autocast features come in half
precision, as a backbone gives them, and the parameters are float32. The peers are pytorch-metric-learning's losses
where it is installed, and the formulas by which OpenMetricLearning and mmpretrain compute ArcFace, written down anew
here.

pytorch-metric-learning takes acos of a cosine that torch.clamp holds in [-1, 1]. Whether its gradient is NaN at the
bounds depends on torch: older releases pass a gradient there, which acos makes infinite; newer ones (2.15) pass
none, so that such a row's target trains nothing. Both are shown, whatever the torch at hand.

    python benchmarks/numerics_vs_peers.py [--rows 256]

Ends with 1 if one of our heads gives anything that is not finite.
"""

from __future__ import annotations

import argparse
import itertools
import math
import platform
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from logitlab.heads import create_head, list_heads

DIMENSIONS = (2, 3, 8, 64, 512)
CLASSES = (2, 10, 100)
LENGTHS = (0.1, 1000.0)
PLACES = {"k W_y": 1.0, "-k W_y": -1.0, "0": 0.0}
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCALE, ANGLE = 64.0, 0.5

#: A loss of each sample, ``[B]``, from features and targets; and the parameter that is the weight.
Loss = tuple[Callable[[Tensor, Tensor], Tensor], nn.Parameter]
#: What builds one from the weight ``[C, D]``.
Builder = Callable[[Tensor], Loss]


def ours() -> dict[str, Builder]:
    """Every head of the registry, and the settings of margin heads that go furthest."""
    needed: dict[str, dict[str, Any]] = {"squared_error": {"preset": "cifar10"}}
    builders = {name: our_head(name, needed.get(name, {})) for name in list_heads()}
    further: dict[str, tuple[str, dict[str, Any]]] = {
        "lsoftmax, λ = 0": ("lsoftmax", {"annealing": None}),
        "sphereface, λ = 0": ("sphereface", {"annealing": None}),
        "sphereface, m = 10, λ = 0": ("sphereface", {"annealing": None, "margin": 10}),
        "cosface, κ = 64": ("cosface", {"kappa": SCALE}),
        "arcface, κ = 64": ("arcface", {"kappa": SCALE}),
        "arcface, κ = 64, m = 3": ("arcface", {"kappa": SCALE, "margin": 3.0}),
        "arcface, detach_margin": ("arcface", {"kappa": SCALE, "detach_margin": True}),
        "arcface, 3 centers, κ = 64": ("arcface", {"kappa": SCALE, "centers": 3}),
        "arcface, maximum likelihood": ("arcface", {"temperature": "maximum_likelihood"}),
        "arcface, rule of thumb": ("arcface", {"temperature": "rule_of_thumb"}),
        "arcface, adacos_dynamic": ("arcface", {"temperature": "adacos_dynamic"}),
        "arcface, trainable": ("arcface", {"temperature": "trainable"}),
    }
    return builders | {title: our_head(*what) for title, what in further.items()}


def our_head(name: str, parameters: dict[str, Any]) -> Builder:
    def build(weight: Tensor) -> Loss:
        classes, dimension = weight.shape
        given = dict(parameters)
        if name == "group_softmax":
            given["groups"] = math.gcd(8, dimension)
        head = create_head(name, dimension, classes, **given)
        centers = len(head.weight) // classes
        with torch.no_grad():
            head.weight.copy_(weight.repeat_interleave(centers, dim=0))
        return lambda features, target: head.loss(features, target, reduction="none"), head.weight

    return build


def peers() -> dict[str, Builder]:
    """The losses of pytorch-metric-learning, and two formulas of ArcFace."""
    builders: dict[str, Builder] = {"ArcFace by OML's formula": formula(oml), "ArcFace by mmpretrain's": formula(mmp)}
    try:
        from pytorch_metric_learning import losses
        from pytorch_metric_learning.reducers import DoNothingReducer
    except ImportError:
        print("pytorch-metric-learning is not installed: without its losses.")
        return builders

    def theirs(kind: Any, centers: int = 1, **parameters: Any) -> Builder:
        def build(weight: Tensor) -> Loss:
            classes, dimension = weight.shape
            peer = kind(num_classes=classes, embedding_size=dimension, reducer=DoNothingReducer(), **parameters)
            with torch.no_grad():
                peer.W.copy_(weight.repeat_interleave(centers, dim=0).T)
            return lambda features, target: peer(features, target)["loss"]["losses"], peer.W

        return build

    degrees = math.degrees(ANGLE)
    arcface = theirs(losses.ArcFaceLoss, margin=degrees, scale=SCALE)
    sub_center = theirs(losses.SubCenterArcFaceLoss, 3, sub_centers=3, margin=degrees, scale=SCALE)
    return {
        "PML ArcFaceLoss": arcface,
        "  clamp of older torch": passing(arcface),
        "PML SubCenterArcFaceLoss": sub_center,
        "  clamp of older torch ": passing(sub_center),
        "PML CosFaceLoss": theirs(losses.CosFaceLoss, margin=0.35, scale=SCALE),
        "PML SphereFaceLoss": theirs(losses.SphereFaceLoss, margin=4, scale=1),
        "PML LargeMarginSoftmaxLoss": theirs(losses.LargeMarginSoftmaxLoss, margin=4, scale=1),
        "PML NormalizedSoftmaxLoss": theirs(losses.NormalizedSoftmaxLoss, temperature=0.05),
    } | builders


class PassingClamp(TorchFunctionMode):
    """Inside, torch.clamp passes gradients at its bounds too, as older releases of torch (2.13) do."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in (torch.clamp, Tensor.clamp):
            return result
        value = args[0]
        return torch.where(value == result, value, result.detach())


def passing(build: Builder) -> Builder:
    """The same with the clamp of older releases."""

    def build_passing(weight: Tensor) -> Loss:
        loss, parameter = build(weight)

        def inside(features: Tensor, target: Tensor) -> Tensor:
            with PassingClamp():
                return loss(features, target)

        return inside, parameter

    return build_passing


def formula(margin: Callable[[Tensor], Tensor]) -> Builder:
    """ArcFace whose margin is computed for all classes and blended in by a one-hot mask."""

    def build(weight: Tensor) -> Loss:
        parameter = nn.Parameter(weight.clone())

        def loss(features: Tensor, target: Tensor) -> Tensor:
            cosine = F.linear(F.normalize(features), F.normalize(parameter))
            mask = F.one_hot(target, len(weight))
            logits = SCALE * (mask * margin(cosine) + (1 - mask) * cosine)
            return F.cross_entropy(logits, target, reduction="none")

        return loss, parameter

    return build


def oml(cosine: Tensor) -> Tensor:
    """cos(θ + m) by a sine without a guard, and a linear tail."""
    turned = cosine * math.cos(ANGLE) - (1 - cosine**2).sqrt() * math.sin(ANGLE)
    return torch.where(cosine > -math.cos(ANGLE), turned, cosine - ANGLE * math.sin(ANGLE))


def mmp(cosine: Tensor) -> Tensor:
    """cos(θ + m) by acos without a guard."""
    return torch.cos(torch.acos(cosine) + ANGLE)


def problems(rows: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For every D and C the weight ``[C, D]``, features k W_y ``[rows, D]`` with k > 0, and the classes y."""
    generator = torch.Generator().manual_seed(0)
    shortest, longest = LENGTHS
    for dimension, classes in itertools.product(DIMENSIONS, CLASSES):
        weight = torch.randn(classes, dimension, generator=generator) / math.sqrt(dimension)
        target = torch.randint(classes, (rows,), generator=generator)
        length = shortest * (longest / shortest) ** torch.rand(rows, 1, generator=generator)
        yield weight, length * F.normalize(weight[target]), target


def faults(build: Builder, place: float, precision: torch.dtype, rows: int) -> tuple[float, bool]:
    """Share of rows that are not finite, and whether a gradient of the weight was not."""
    bad, seen, weight_bad = 0, 0, False
    for weight, features, target in problems(rows):
        loss, parameter = build(weight)
        features = (place * features).to(precision).requires_grad_()
        with autocast(precision):
            values = loss(features, target)
        values.sum().backward()
        assert features.grad is not None
        sound = values.detach().isfinite() & features.grad.isfinite().all(dim=1)
        bad += int((~sound).sum())
        seen += rows
        weight_bad |= parameter.grad is None or not bool(parameter.grad.isfinite().all())
    return bad / seen, weight_bad


def autocast(precision: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if precision == torch.float32 else torch.autocast("cpu", dtype=precision)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256, help="of each D and C")
    rows = parser.parse_args().rows
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore", DeprecationWarning)
    print(
        f"torch {torch.__version__}, {platform.machine()}; D {DIMENSIONS}, C {CLASSES}, {rows} rows each; "
        "percent of rows with a loss or gradient that is not finite"
    )
    print(f"{'':30}" + "".join(f"{'x = ' + place:^27}" for place in PLACES))
    print(f"{'':30}" + "".join(f"{name:>9}" for _ in PLACES for name in PRECISIONS))
    wrong = []
    for title, group in (("ours", ours()), ("peers", peers())):
        print(title)
        for name, build in group.items():
            cells = ""
            for place, precision in itertools.product(PLACES.values(), PRECISIONS.values()):
                try:
                    share, weight_bad = faults(build, place, precision, rows)
                    cell = f"{100 * share:.1f}" + (" W" if weight_bad else "")
                except RuntimeError as error:
                    cell, share, weight_bad = type(error).__name__[:8], 1.0, True
                if title == "ours" and (share or weight_bad):
                    wrong.append(name)
                cells += f"{cell:>9}"
            print(f"{name:30}{cells}", flush=True)
    if wrong:
        print(f"NOT finite: {', '.join(dict.fromkeys(wrong))}.")
        return 1
    print("Every head of ours is finite everywhere.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
