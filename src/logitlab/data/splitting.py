"""Stratified choices: the validation part, a test part of our own, a limit on the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from logitlab.config.errors import DataError
from logitlab.config.trial import DataConfig

from .dataset import DataSet
from .images import Images

# Fixed for ever: another choice would be another data set, with another fingerprint.
_TEST_FRACTION = 0.2
_TEST_SEED = 0


@dataclass(frozen=True, eq=False)
class Split:
    """The three parts that a trial sees.

    Attributes:
        train: images to train on.
        validation: images to select on (early stopping, settings).
        test: images that are measured once, at the end.
    """

    train: Images
    validation: Images
    test: Images


def split_data(data: DataSet, config: DataConfig) -> Split:
    """Hold out a stratified validation part, then limit the training images.

    Both choices depend on ``config.split_seed`` and the labels alone, never on the seed of a trial. The
    validation part does not depend on ``train_limit``, so trials with different limits are measured alike,
    and a smaller limit chooses among the images of a larger one. A set that brings validation images of its
    own keeps them, and ``validation_fraction`` has no effect. With ``train_on_held_out`` the validation part is one of
    the training part.

    Args:
        data: the data set.
        config: fraction, limit and seed, and whether what is held out is trained on.

    Raises:
        DataError: a class has fewer than 2 training images, the limit is below the number of classes, or what is held
            out shall be trained on and the set brings validation images of its own.
    """
    if config.train_limit is not None and config.train_limit < data.num_classes:
        raise DataError(
            f"train_limit must be at least the number of classes, {data.num_classes}, so that each class has "
            f"an image. Got {config.train_limit}."
        )
    train, validation = data.train, data.validation
    if validation is None:
        kept, held_out = stratified_holdout(
            train.labels, config.validation_fraction, config.split_seed, data.class_names
        )
        validation = train.select(held_out)
        if not config.train_on_held_out:
            train = train.select(kept)
    elif config.train_on_held_out:
        raise DataError(
            f"'{data.name}' brings validation images of its own, which stay apart. Leave train_on_held_out out, or put "
            "these images among the training images."
        )
    if config.train_limit is not None and config.train_limit < len(train):
        train = train.select(_balanced_choice(train.labels, config.train_limit, config.split_seed))
    return Split(train, validation, data.test)


def split_off_test(labels: Tensor, class_names: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
    """Hold out a fifth of each class, always the same, as the test part of a set that has none.

    Arguments, results and errors as in `stratified_holdout`.
    """
    return stratified_holdout(labels, _TEST_FRACTION, _TEST_SEED, class_names)


def stratified_holdout(
    labels: Tensor, fraction: float, seed: int, class_names: Sequence[str] | None = None
) -> tuple[Tensor, Tensor]:
    """Split images at random, class by class.

    Of a class with n images round(fraction · n) are held out, at least 1 and at most n - 1.

    Args:
        labels: int64 ``[N]``.
        fraction: share to hold out, in (0, 1).
        seed: of the choice.
        class_names: for the error.

    Returns:
        Indices that stay and indices that are held out, int64, both ascending.

    Raises:
        DataError: a class has a single image.

    >>> kept, held_out = stratified_holdout(torch.tensor([0] * 8 + [1] * 4), 0.25, seed=0)
    >>> len(kept), torch.tensor([0] * 8 + [1] * 4)[held_out].tolist()
    (9, [0, 0, 1])
    """
    counts = torch.bincount(labels)
    single = torch.nonzero(counts == 1).flatten().tolist()
    if single:
        name = single[0] if class_names is None else class_names[single[0]]
        raise DataError(
            f"Class '{name}' has 1 image; holding out a share of each class needs at least 2. "
            "Add images or remove the class."
        )
    quota = (counts.double() * fraction).round().long().clamp_min(1).minimum(counts - 1)
    held_out = _random_rank(labels, seed) < quota[labels]
    return torch.nonzero(~held_out).flatten(), torch.nonzero(held_out).flatten()


def _balanced_choice(labels: Tensor, limit: int, seed: int) -> Tensor:
    """Choose ``limit`` images so that class counts differ by at most one while images last; ascending."""
    # Taking all images of rank 0 first, then of rank 1, and so on, deals the classes out in turn.
    by_rank = torch.argsort(_random_rank(labels, seed), stable=True)
    return by_rank[:limit].sort().values


def _random_rank(labels: Tensor, seed: int) -> Tensor:
    """Number the images of each class 0, 1, 2, ... in a random order; int64 ``[N]``."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    counts = torch.bincount(labels)
    starts = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - starts[labels[by_class]]
    return rank
