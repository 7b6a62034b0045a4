"""What a linear probe is fitted to: the training set, and the part of it that is held out."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .arrays import ArrayLike, Rows, read_labels
from .measurement import UndefinedError

# Beside larger features the constant 1 of the bias has no room in float32.
_LARGEST = 1e30


def training_set(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_validation: ArrayLike | None,
    y_validation: ArrayLike | None,
    *,
    choose: bool,
    fraction: float,
    seed: int,
    device: torch.device | str | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read all of the training set; ``choose`` holds a part out.

    Returns:
        features ``[N, D]`` in float64, labels ``[N]``, and which are held out, bool ``[N]``; those given as validation
        come last.
    """
    if (x_validation is None) != (y_validation is None):
        raise InputError("Expected 'x_validation' and 'y_validation' together. Got one of them.")
    parts = [(Rows(x_train, "x_train"), y_train, "y_train")]
    if x_validation is not None:
        if not choose:
            raise InputError("Expected no 'x_validation' for the variant 'kobayashi', which chooses nothing. Got one.")
        parts.append((Rows(x_validation, "x_validation"), y_validation, "y_validation"))
        if parts[1][0].shape[1] != parts[0][0].shape[1]:
            columns = [rows.shape[1] for rows, *_ in parts]
            raise InputError(f"Expected 'x_validation' with {columns[0]} columns as 'x_train'. Got {columns[1]}.")
    place = parts[0][0].device if device is None else torch.device(device)
    if place.type == "mps":
        raise InputError("Expected a 'device' that computes in float64. Got 'mps'.")
    rows_count = sum(len(rows) for rows, *_ in parts)
    x = torch.empty(rows_count, parts[0][0].shape[1], dtype=torch.float64, device=place)
    begin = 0
    for rows, *_ in parts:
        for where, chunk in rows.chunks():
            x[begin + where.start : begin + where.stop] = chunk.to(place)
        begin += len(rows)
    if float(x.abs().max()) > _LARGEST:
        raise InputError(
            f"Expected features up to {_LARGEST:.0e}, beside which a bias is of use. Got {float(x.abs().max()):.3g}."
        )
    labels = torch.cat([read_labels(y, name, len(rows)).to(place) for rows, y, name in parts])
    if not choose:
        held = torch.zeros(rows_count, dtype=torch.bool, device=place)
    elif x_validation is not None:
        held = torch.arange(rows_count, device=place) >= len(parts[0][0])
    else:
        held = _hold_out(labels.cpu(), fraction, seed).to(place)
    return x, labels, held


def _hold_out(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Draw ``fraction`` of each class, rounded up or down by chance, but never all of it."""
    if not 0 < fraction < 1:
        raise InputError(f"Expected 'validation_fraction' between 0 and 1. Got {fraction}.")
    generator = torch.Generator().manual_seed(seed)
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in torch.unique(labels):
        members = (labels == label).nonzero().squeeze(1)
        members = members[torch.randperm(len(members), generator=generator)]
        chance = float(torch.rand((), generator=generator, dtype=torch.float64))
        held[members[: min(math.floor(fraction * len(members) + chance), len(members) - 1)]] = True
    if not bool(held.any()):
        raise InputError(
            f"Expected 'x_train' with enough samples to hold out a part of {fraction}. Got {len(labels)} samples of "
            f"{len(torch.unique(labels))} classes, and every class keeps one: give 'x_validation'."
        )
    return held


def class_labels(labels: Tensor) -> Tensor:
    """The classes that occur, in order, two at least."""
    classes: Tensor = torch.unique(labels)
    if len(classes) < 2:
        raise UndefinedError(
            f"Expected at least two classes in 'y_train'. Got one, {int(classes[0])}: nothing is there to tell apart."
        )
    return classes


def unseen_classes(labels: Tensor, classes: Tensor, part: str) -> list[str]:
    """Say which labels were not fitted; no sentence where all were."""
    unseen = ~torch.isin(labels, classes)
    if not bool(unseen.any()):
        return []
    names = torch.unique(labels[unseen]).tolist()
    shown = ", ".join(str(name) for name in names[:5]) + (", ..." if len(names) > 5 else "")
    return [
        f"{int(unseen.sum())} of {len(labels)} {part} samples have a class that was not fitted ({shown}): "
        "they count as wrong."
    ]
