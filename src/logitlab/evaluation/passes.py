"""One pass of a model over images: features of chosen layers, logits and confidence, kept on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from logitlab.config.errors import InputError, TrialError
from logitlab.data import Images
from logitlab.functional import least_squares_kappa
from logitlab.heads import Classifier

from .collecting import Precision, _evaluating
from .layers import LayerOutputs, Pooling, find_layers, has_channels_last, named_layers
from .pass_cache import Column, Pass, PassFolder

#: Batches between two commits: what a killed pass loses at most.
COMMIT_EVERY = 8

AUTO = "auto"
#: A seed of its own for the choice of images, the same for every model.
_CHOICE_SEED = 0


@dataclass(frozen=True)
class PassOptions:
    """How a model looks at images.

    Attributes:
        prepare: from pixels to what the backbone takes.
        device: where the model lives.
        batch_size: images a step.
        precision: of the backbone.
        pooling: how outputs of layers become vectors.
    """

    prepare: Callable[[Tensor], Tensor]
    device: str = "cpu"
    batch_size: int = 64
    precision: Precision = "float32"
    pooling: Pooling = "mean"

    def essence(self) -> dict[str, Any]:
        """What of this the numbers depend on."""
        return {
            "device": torch.device(self.device).type,
            "torch": torch.__version__,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "pooling": self.pooling,
        }


def run_pass(
    root: Path,
    essence: Mapping[str, Any],
    load: Callable[[], Classifier],
    images: Callable[[], Images],
    options: PassOptions,
    *,
    layers: tuple[str, ...] = (),
    limit: int | None = None,
) -> Pass:
    """Return a pass: read where it is whole, continued where it was cut off, run where there is none.

    Its arrays, each with a row an image: ``features`` ``[N, D]``, ``logits`` ``[N, C]``, ``max_logit`` and
    ``kappa_star`` ``[N]``, all float32; ``labels`` int64 ``[N]``; ``layer-0`` and so on, float32; and ``zeros``
    float64 ``[N, layers]``, the share of units of each layer that are exactly zero before pooling.

    Args:
        root: the folder of all passes.
        essence: what else the numbers depend on: weights, images, split.
        load: gives the model, on any device; not called where the pass is whole.
        images: gives the images; likewise.
        options: how the model looks at them.
        layers: names of modules of the backbone; ``("auto",)`` for its blocks; those that it has not are left out.
        limit: look at no more images than these, chosen by a seed of their own.

    Raises:
        InputError: a layer is called several times in a forward pass, or not at all.
        TrialError: features or logits are not finite.
        OSError: the file system refuses.
    """
    folder = _folder(root, essence, options, layers, limit)
    found = folder.read()
    if found is None:
        with folder.alone():
            # Another process may have been faster.
            found = folder.read()
            if found is None:
                _fill(folder, load().to(options.device), images(), options, layers, limit)
                found = folder.read()
    assert found is not None
    return found


def read_pass(
    root: Path,
    essence: Mapping[str, Any],
    options: PassOptions,
    *,
    layers: tuple[str, ...] = (),
    limit: int | None = None,
) -> Pass | None:
    """Return a pass if it is there, whole; arguments as for :func:`run_pass`."""
    return _folder(root, essence, options, layers, limit).read()


def _folder(
    root: Path, essence: Mapping[str, Any], options: PassOptions, layers: tuple[str, ...], limit: int | None
) -> PassFolder:
    return PassFolder(root, {**essence, **options.essence(), "layers": list(layers), "limit": limit})


def chosen_images(count: int, limit: int | None) -> Tensor:
    """Indices of at most ``limit`` of ``count`` images, ascending; a random choice that is always the same.

    >>> chosen_images(3, 5), len(chosen_images(100, 5))
    (tensor([0, 1, 2]), 5)
    """
    if limit is None or limit >= count:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(_CHOICE_SEED)
    return torch.randperm(count, generator=generator)[:limit].sort().values


@torch.no_grad()
def _fill(
    folder: PassFolder,
    model: Classifier,
    images: Images,
    options: PassOptions,
    layers: tuple[str, ...],
    limit: int | None,
) -> None:
    indices = chosen_images(len(images), limit)
    if not len(indices):
        raise InputError("Expected images to look at. Got none.")
    modules = _modules(model.backbone, images, options, layers)
    taken = LayerOutputs(modules, options.pooling, channels_last=has_channels_last(model.backbone))
    with _evaluating(model), taken.listening():
        # One batch tells the shapes; what it gives is dropped.
        first, labels = next(iter(images.batches(indices[: options.batch_size], options.batch_size, options.device)))
        columns = [
            Column(name, tuple(values.shape[1:]), str(values.numpy().dtype))
            for name, values in _look(model, taken, first, labels, options).items()
        ]
        done, arrays = folder.begin(len(indices), options.batch_size, list(modules), columns)
        batches = images.batches(indices[done:], options.batch_size, options.device)
        for number, (pixels, labels) in enumerate(batches, start=1):
            stop = done + len(labels)
            for name, values in _look(model, taken, pixels, labels, options).items():
                arrays[name][done:stop] = values.numpy()
            done = stop
            if number % COMMIT_EVERY == 0 and done < len(indices):
                folder.commit(done, arrays)
        folder.commit(done, arrays)


def _modules(
    backbone: nn.Module, images: Images, options: PassOptions, layers: tuple[str, ...]
) -> dict[str, nn.Module]:
    if layers != (AUTO,):
        return named_layers(backbone, layers)
    for pixels, _ in images.batches(torch.zeros(2, dtype=torch.int64), 2, options.device):
        return find_layers(backbone, options.prepare(pixels))
    return {}


def _look(
    model: Classifier, taken: LayerOutputs, pixels: Tensor, labels: Tensor, options: PassOptions
) -> dict[str, Tensor]:
    """Return what a batch gives, on the CPU."""
    taken.forget()
    device = torch.device(options.device).type
    with torch.autocast(device, torch.bfloat16, enabled=options.precision == "bfloat16"):
        features = model.features(options.prepare(pixels))
    taken.check()
    features = features.float()
    _check_finite("features", features)
    logits = model.head(features)
    _check_finite("logits", logits)
    found = {
        "features": features,
        "logits": logits,
        "max_logit": model.head.max_logit(features),
        "kappa_star": least_squares_kappa(features, model.head.weight),
    }
    found = {name: values.float() for name, values in found.items()}
    found["labels"] = labels
    for place, (name, values) in enumerate(taken.vectors.items()):
        if len(values) != len(labels):
            raise InputError(f"The layer '{name}' gives {len(values)} rows for {len(labels)} images. Choose another.")
        found[f"layer-{place}"] = values
    if taken.zeros:
        found["zeros"] = torch.stack(list(taken.zeros.values()), dim=1)
    return {name: values.cpu() for name, values in found.items()}


def _check_finite(what: str, values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise TrialError(f"The model's {what} are not finite: its training has diverged, or its weights are damaged.")


class JoinedImages:
    """The images of several parts, one part after another; see `logitlab.data.Images`."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self._parts = list(parts)
        self.labels = torch.cat([part.labels for part in parts])

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def select(self, indices: Tensor) -> JoinedImages:
        """Return the images at ``indices``, which must ascend."""
        return JoinedImages([part.select(own) for part, own in self._own(indices)])

    def batches(
        self, indices: Tensor, batch_size: int, device: torch.device | str = "cpu"
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Images.batches`; ``indices`` must ascend, and a batch holds images of one part."""
        for part, own in self._own(indices):
            yield from part.batches(own, batch_size, device)

    def _own(self, indices: Tensor) -> Iterator[tuple[Images, Tensor]]:
        start = 0
        for part in self._parts:
            own = indices[(indices >= start) & (indices < start + len(part))] - start
            if len(own):
                yield part, own
            start += len(part)
