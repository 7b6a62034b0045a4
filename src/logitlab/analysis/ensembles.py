"""Ensembles by vote: of one head's seeds, and of two heads' halves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from logitlab.config.errors import InputError

from .agreement import read_classes
from .arrays import ArrayLike
from .measurement import Measurement
from .result import Result

# Votes of one chunk: 2 MiB of int64 stay in a core's cache.
_CHUNK_ELEMENTS = 2**18

_CONVENTION = "most common top-1 class, ties to the smallest label"


def modal_vote(predictions: Sequence[ArrayLike] | ArrayLike) -> Tensor:
    """Return the class that most models predict, for each sample; of equally common ones the smallest.

    Votes are counted rather than left to ``torch.mode``, whose choice among ties is documented for no device. The
    cost is M²N comparisons, whatever the number of classes.

    Args:
        predictions: predicted classes (top-1) of M models, shape ``[M, N]``, or a list of M arrays ``[N]``.

    Returns:
        int64 ``[N]``, on the CPU.

    Raises:
        InputError: no models, no class indices, or lengths that differ.

    References:
        W Figures D.2 and D.3 (captions). They do not say what happens to ties.

    >>> modal_vote([[0, 1, 2, 5], [0, 2, 2, 4], [1, 0, 2, 4], [1, 2, 0, 5]])
    tensor([0, 2, 2, 4])
    """
    return _vote(_read(predictions, "predictions"))[0]


def ensemble_accuracy(
    predictions: Sequence[ArrayLike] | ArrayLike, y: ArrayLike, *, split: str | None = None
) -> Measurement:
    """Accuracy of the models' modal vote.

    Args:
        predictions: predicted classes of M models, shape ``[M, N]``, or a list of M arrays ``[N]``.
        y: true classes, shape ``[N]``.
        split: the part of the data, kept in the result.

    Returns:
        A fraction in [0, 1]. ``details``: ``models``, ``single`` (mean accuracy of the models alone), ``tied`` (share
        of samples for which the smallest of several equally common classes was taken).

    Raises:
        InputError: no models, no class indices, or lengths that differ.

    References:
        W Figure D.3.

    >>> print(ensemble_accuracy([[0, 1, 1], [0, 1, 0], [0, 0, 1]], [0, 1, 1]).value)
    1.0
    """
    votes = _read(predictions, "predictions")
    truth = read_classes(y, "y", votes.shape[1])
    answer, tied = _vote(votes)
    return Measurement(
        "ensemble_accuracy",
        _share(answer, truth),
        _CONVENTION,
        len(truth),
        split,
        details={
            "models": float(len(votes)),
            "single": sum(_share(vote, truth) for vote in votes) / len(votes),
            "tied": int(tied.sum()) / len(tied),
        },
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class MixedEnsembles(Result):
    """Accuracies of ensembles of one head and of two.

    Attributes:
        names: of the heads, in order.
        value: fractions, shape ``[H, H]``, symmetric; on the diagonal ensembles of one head, elsewhere of two.
        size: models in each ensemble.
    """

    name: ClassVar[str] = "mixed_ensembles"

    names: tuple[str, ...]
    value: Tensor
    size: int

    @property
    def headline(self) -> str:
        """The best ensembles of one head and of two."""
        alone = self.value.diagonal()
        best = int(alone.argmax())
        line = f"of {self.size} models: best of one head {self.names[best]} {float(alone[best]):.4g}"
        if len(self.names) == 1:
            return line
        mixed = self.value.clone().fill_diagonal_(-1.0)
        row, column = divmod(int(mixed.argmax()), len(self.names))
        return f"{line}, best of two {self.names[row]} and {self.names[column]} {float(mixed[row, column]):.4g}"


def mixed_ensembles(
    predictions: Mapping[str, Sequence[ArrayLike]], y: ArrayLike, *, split: str | None = None
) -> MixedEnsembles:
    """Accuracy of ensembles of which half the models have one head and half another.

    All ensembles have the same size: the smallest number of seeds that a head has, rounded down to an even one;
    a head's further seeds are left out. On the diagonal stand all of a head's seeds. Elsewhere stand the first half
    of one head's seeds with the last half of the other's, so that no seed occurs twice (runs of one seed share
    their start and their batches); there are two such ensembles, and their accuracies are averaged. W does not say
    which halves it took.

    Args:
        predictions: head → predicted classes of each of its seeds, shape ``[N]`` each, seeds in the same order for
            every head. At least two seeds.
        y: true classes, shape ``[N]``.
        split: the part of the data, kept in the result.

    Returns:
        Fractions in [0, 1]; a warning names the seeds left out.

    Raises:
        InputError: no heads, a head with fewer than two seeds, no class indices, or lengths that differ.

    References:
        W Figure D.3.

    >>> heads = {"a": [[0, 0, 0], [0, 0, 1]], "b": [[1, 1, 1], [1, 0, 1]]}
    >>> mixed_ensembles(heads, [0, 0, 1]).value.round(decimals=4)
    tensor([[0.6667, 0.8333],
            [0.8333, 0.6667]], dtype=torch.float64)
    """
    if not predictions:
        raise InputError("Expected the predictions of at least one head. Got none.")
    names = tuple(predictions)
    heads = [_read(predictions[name], f"predictions[{name!r}]") for name in names]
    few = [name for name, head in zip(names, heads) if len(head) < 2]
    if few:
        raise InputError(f"Expected at least two seeds a head, to have halves. Got one of {few[0]!r}.")
    truth = read_classes(y, "y", heads[0].shape[1])
    for name, head in zip(names, heads):
        if head.shape[1] != len(truth):
            raise InputError(f"Expected {len(truth)} predictions a model of {name!r}. Got {head.shape[1]}.")
    half = min(len(head) for head in heads) // 2
    size = 2 * half
    value = torch.empty(len(heads), len(heads), dtype=torch.float64)
    for row, one in enumerate(heads):
        value[row, row] = _share(_vote(one[:size])[0], truth)
        for column, other in enumerate(heads[:row]):
            choices = ((one[:half], other[half:size]), (other[:half], one[half:size]))
            value[row, column] = value[column, row] = (
                sum(_share(_vote(torch.cat(choice))[0], truth) for choice in choices) / 2
            )
    left_out = [f"{len(head) - size} of {name!r}" for name, head in zip(names, heads) if len(head) > size]
    return MixedEnsembles(
        names=names,
        value=value,
        size=size,
        convention=f"{_CONVENTION}; half of each head, seeds never twice, both choices averaged",
        n=len(truth),
        split=split,
        warnings=(f"Seeds left out, for ensembles of one even size: {', '.join(left_out)}.",) if left_out else (),
    )


def _read(predictions: Sequence[ArrayLike] | ArrayLike, name: str) -> Tensor:
    """Read the answers of M models as int64 ``[M, N]`` on the CPU."""
    try:
        rows = list(predictions)
    except TypeError as fault:
        raise InputError(f"Expected '{name}' of shape [M, N]. Got {type(predictions).__name__}.") from fault
    if not rows:
        raise InputError(f"Expected '{name}' of shape [M, N], at least one model. Got none.")
    first = read_classes(rows[0], f"{name}[0]")
    rest = [read_classes(row, f"{name}[{index}]", len(first)) for index, row in enumerate(rows[1:], start=1)]
    return torch.stack([first, *rest])


def _vote(votes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the modal class of each column of ``[M, N]`` and whether several classes were as common."""
    answers, ties = [], []
    for chunk in torch.split(votes, max(1, _CHUNK_ELEMENTS // len(votes)), dim=1):
        support = torch.zeros_like(chunk)
        for vote in chunk:
            support += chunk == vote
        common = support == support.amax(dim=0)
        smallest = torch.where(common, chunk, torch.iinfo(torch.int64).max).amin(dim=0)
        answers.append(smallest)
        ties.append((common & (chunk != smallest)).any(dim=0))
    return torch.cat(answers), torch.cat(ties)


def _share(answer: Tensor, truth: Tensor) -> float:
    return int((answer == truth).sum()) / len(truth)
