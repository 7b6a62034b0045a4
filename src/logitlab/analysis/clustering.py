"""Which models belong together: the dendrogram of their similarities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name

from .arrays import ArrayLike, Rows
from .counts import is_count
from .result import Result

#: Linkages for any distance. SciPy's others (Ward, centroid, median) are for Euclidean ones; 1 - similarity is none.
Linkage = Literal["average", "complete", "single", "weighted"]

# Similarities are sums over many samples; CKA of a model with itself may come out as 1 + 1e-15.
_ROUNDING = 1e-9

# The same of similarities that are stored in single or half precision, whose last digits are rounded away.
_ROUNDING_OF_FLOATS = 1e-5


@dataclass(frozen=True, kw_only=True, eq=False)
class Dendrogram(Result):
    """Models merged step by step, the most similar first.

    Attributes:
        names: of the models, in the order given.
        linkage: a merge a row, shape ``[M - 1, 4]``, as SciPy writes it: the two clusters (below M: a model; M + i: the
            cluster of row i), their distance, the number of models in the new cluster.
        order: indices of the models from one side of the picture to the other, similar ones side by side.
        value: cophenetic correlation: of the distances at which models are merged with their distances. 1 where the
            tree says it all; NaN where all distances are equal (two models have but one).
    """

    name: ClassVar[str] = "dendrogram"

    names: tuple[str, ...]
    linkage: Tensor
    order: tuple[int, ...]
    value: float

    @property
    def headline(self) -> str:
        """Number of models and how faithful the tree is."""
        return f"of {len(self.names)} models, cophenetic correlation {self.value:.4g}"

    def groups(self, count: int) -> dict[str, int]:
        """Cut the tree into groups.

        Args:
            count: how many, from 1 to M. Of merges at equal distance those that stand first in ``linkage`` are made.

        Returns:
            name → number of its group; groups are numbered from 0 in the order in which the names meet them.

        Raises:
            InputError: another count.
        """
        from scipy.cluster.hierarchy import cut_tree

        if not is_count(count, 1, len(self.names)):
            raise InputError(
                f"Expected an integer 'count' from 1 to {len(self.names)}, the number of models. Got {count!r}."
            )
        found = cut_tree(self.linkage.numpy(), n_clusters=count)[:, 0].tolist()
        numbers = {group: number for number, group in enumerate(dict.fromkeys(found))}
        return {name: numbers[group] for name, group in zip(self.names, found)}


def cluster_models(similarity: Any, method: Linkage = "average") -> Dendrogram:
    r"""Cluster models by a matrix of their similarities.

    Hierarchical clustering with the distance :math:`1 - s`. Under average linkage two clusters are as far apart as
    their members are on average. W prints a dendrogram and names no linkage: ``"average"`` is our choice.

    Args:
        similarity: :class:`~logitlab.analysis.AgreementMatrix`, a CKA matrix of models against themselves, or whatever
            has ``value``, a symmetric matrix ``[M, M]`` in [0, 1] with ones on its diagonal, and ``names``.
        method: ``"average"``, ``"complete"``, ``"single"`` or ``"weighted"``.

    Returns:
        The tree. ``n`` and ``split`` are those of the matrix.

    Raises:
        InputError: fewer than two models, names that do not fit, or a matrix that is not symmetric, has undefined
            values, values outside [0, 1], or no ones on its diagonal.

    References:
        W Figure 1b. Computed by ``scipy.cluster.hierarchy``.

    >>> from logitlab.analysis import agreement_matrix
    >>> answers = {"a": [0, 1, 2, 3], "c": [3, 3, 3, 3], "b": [0, 1, 2, 2], "d": [3, 3, 3, 0]}
    >>> found = cluster_models(agreement_matrix(answers))
    >>> found.groups(2)
    {'a': 0, 'c': 1, 'b': 0, 'd': 1}
    >>> [found.names[index] for index in found.order]
    ['b', 'a', 'c', 'd']
    """
    from scipy.cluster.hierarchy import cophenet, leaves_list, linkage
    from scipy.spatial.distance import squareform

    if method not in get_args(Linkage):
        raise InputError(unknown_name("linkage", str(method), get_args(Linkage)))
    if not hasattr(similarity, "value"):
        raise InputError(
            "Expected a matrix of similarities with 'names' and 'value', such as agreement_matrix gives. "
            f"Got {type(similarity).__name__}."
        )
    values = _matrix(similarity.value)
    names = _names(similarity, len(values))
    distances = squareform((1 - values).clamp(min=0).fill_diagonal_(0).numpy())
    # Without ordering, SciPy's leaf order says nothing about neighbours that belong to different clusters.
    merges = linkage(distances, method, optimal_ordering=True)
    warnings: tuple[str, ...] = ()
    correlation = math.nan
    merged_at = cophenet(merges)
    if float(distances.max() - distances.min()) <= _ROUNDING or float(merged_at.max() - merged_at.min()) <= _ROUNDING:
        warnings = ("All models are equally far apart: there is nothing to correlate the tree with.",)
    else:
        correlation = float(cophenet(merges, distances)[0])
    return Dendrogram(
        names=names,
        linkage=torch.from_numpy(merges.copy()),
        order=tuple(leaves_list(merges).tolist()),
        value=correlation,
        convention=f"{method} linkage of 1 - similarity; W names no linkage",
        n=getattr(similarity, "n", len(names)),
        split=getattr(similarity, "split", None),
        warnings=warnings,
    )


def _names(similarity: Any, count: int) -> tuple[str, ...]:
    names: tuple[str, ...] = tuple(getattr(similarity, "names", getattr(similarity, "rows", ())))
    columns: tuple[str, ...] = tuple(getattr(similarity, "columns", names))
    if names != columns:
        raise InputError(
            "Expected similarities of models with themselves, rows and columns alike. "
            f"Got rows {list(names)} and columns {list(columns)}."
        )
    if len(names) != count:
        raise InputError(f"Expected one name a model. Got {len(names)} names and {count} models.")
    return names


def _matrix(value: ArrayLike) -> Tensor:
    undefined = "Expected a similarity for every pair of models. Got NaN: leave out the models that have none."
    if isinstance(value, Tensor) and value.is_floating_point() and bool(value.isnan().any()):
        raise InputError(undefined)
    rows = Rows(value, "similarity")
    matrix = torch.cat([chunk for _, chunk in rows.chunks()]).cpu()
    is_rounded = rows.dtype.is_floating_point and rows.dtype != torch.float64
    rounding = max(_ROUNDING_OF_FLOATS, torch.finfo(rows.dtype).eps) if is_rounded else _ROUNDING
    if matrix.shape[0] != matrix.shape[1]:
        raise InputError(f"Expected a square matrix of similarities. Got {list(matrix.shape)}.")
    if len(matrix) < 2:
        raise InputError("Expected at least two models to cluster. Got one.")
    lowest, highest = float(matrix.min()), float(matrix.max())
    if lowest < -rounding or highest > 1 + rounding:
        raise InputError(f"Expected similarities in [0, 1]. Got values from {lowest:.6g} to {highest:.6g}.")
    if float((matrix - matrix.T).abs().max()) > rounding:
        raise InputError("Expected a symmetric matrix of similarities. Got one that is not.")
    if float((matrix.diagonal() - 1).abs().max()) > rounding:
        raise InputError(
            "Expected every model to have similarity 1 to itself. "
            f"Got {float(matrix.diagonal().min()):.6g} on the diagonal."
        )
    return (matrix + matrix.T) / 2
