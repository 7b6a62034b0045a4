"""The fused step as a fixed sequence of products and small kernels: for a GPU, and for classes split over ranks."""

from .block import Block
from .differentiable import (
    bias_of_targets,
    gather_rows,
    plain_split_terms,
    scale_gradient,
    shared,
    sum_of_all,
    total_loss,
)
from .forward import Placement
from .function import blockwise_rival_terms
from .kernels import Kernels, kernels_for
from .likelihood import likelihood_means
from .ranks import Ranks, Traffic

__all__ = [
    "Block",
    "Kernels",
    "Placement",
    "Ranks",
    "Traffic",
    "bias_of_targets",
    "blockwise_rival_terms",
    "gather_rows",
    "kernels_for",
    "likelihood_means",
    "plain_split_terms",
    "scale_gradient",
    "shared",
    "sum_of_all",
    "total_loss",
]
