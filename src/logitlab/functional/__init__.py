"""Pure functions of tensors: the formulas of the papers, one loss a sample, torch alone."""

from .cross_entropy import rival_logsumexp, softmax_cross_entropy
from .equiangular import equiangular_kappa
from .least_squares import (
    KAPPA_CANDIDATES,
    check_candidates,
    least_squares_kappa,
    projection_energy,
    search_least_squares,
)
from .normalization import cosine_similarity, normalize
from .precision import at_least_float32, autocast_off
from .reduction import Reduction, reduce_loss, sample_weight
from .regularizers import logit_penalty, normalize_logits, uniform_target, weight_penalty
from .sigmoid import normalized_sigmoid, sigmoid_cross_entropy
from .squared_error import squared_error
from .targets import check_target, is_soft

__all__ = [
    "KAPPA_CANDIDATES",
    "Reduction",
    "at_least_float32",
    "autocast_off",
    "check_candidates",
    "check_target",
    "cosine_similarity",
    "equiangular_kappa",
    "is_soft",
    "least_squares_kappa",
    "logit_penalty",
    "normalize",
    "normalize_logits",
    "normalized_sigmoid",
    "projection_energy",
    "reduce_loss",
    "rival_logsumexp",
    "sample_weight",
    "search_least_squares",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "uniform_target",
    "weight_penalty",
]
