"""Pure functions of tensors: the formulas of the papers, one loss a sample, torch alone."""

from .adacos import adacos_kappa, adacos_step, adacos_step_of_terms
from .cosine import cosine_similarity, cosine_with_units
from .cross_entropy import all_rivals_logsumexp, rival_logsumexp, softmax_cross_entropy
from .equiangular import equiangular_kappa
from .focal import focal_loss, focal_of_gap
from .golden_section import golden_section
from .group_softmax import (
    GroupKind,
    discriminative_grouping,
    discriminativity,
    fixed_grouping,
    group_logits,
    group_softmax_cross_entropy,
    groups_fault,
    random_grouping,
)
from .group_softmax_fast import fast_discriminative_grouping, fast_group_logits
from .group_softmax_fused import fused_group_softmax_cross_entropy
from .least_squares import (
    KAPPA_CANDIDATES,
    Chosen,
    Method,
    Search,
    check_candidates,
    choose_kappa,
    least_squares_kappa,
    projection_energy,
    search_least_squares,
)
from .long_tail import adjust_logits, label_distribution_margins, log_prior
from .margins import additive_angular_margin, additive_cosine_margin, multiplicative_angular_margin
from .maximum_likelihood import (
    Normalizer,
    maximum_likelihood_energy,
    search_likelihood_of_means,
    search_maximum_likelihood,
)
from .normalization import length, normalize
from .precision import at_least_float32, autocast_off
from .reduction import Reduction, reduce_loss, sample_weight
from .regularizers import logit_penalty, normalize_logits, uniform_target, weight_penalty
from .rival_function import rival_terms
from .rival_terms import KappaSearch, RivalTerms, plain_rival_terms
from .rule_of_thumb import rule_of_thumb_kappa, rule_of_thumb_of_mean
from .sigmoid import normalized_sigmoid, sigmoid_cross_entropy
from .squared_error import squared_error
from .targets import check_target, is_soft
from .von_mises_fisher import von_mises_fisher_bound, von_mises_fisher_log_normalizer, von_mises_fisher_log_ratio

__all__ = [
    "KAPPA_CANDIDATES",
    "Chosen",
    "GroupKind",
    "KappaSearch",
    "Method",
    "Normalizer",
    "Reduction",
    "RivalTerms",
    "Search",
    "adacos_kappa",
    "adacos_step",
    "adacos_step_of_terms",
    "additive_angular_margin",
    "additive_cosine_margin",
    "adjust_logits",
    "all_rivals_logsumexp",
    "at_least_float32",
    "autocast_off",
    "check_candidates",
    "check_target",
    "choose_kappa",
    "cosine_similarity",
    "cosine_with_units",
    "discriminative_grouping",
    "discriminativity",
    "equiangular_kappa",
    "fast_discriminative_grouping",
    "fast_group_logits",
    "fixed_grouping",
    "focal_loss",
    "focal_of_gap",
    "fused_group_softmax_cross_entropy",
    "golden_section",
    "group_logits",
    "group_softmax_cross_entropy",
    "groups_fault",
    "is_soft",
    "label_distribution_margins",
    "least_squares_kappa",
    "length",
    "log_prior",
    "logit_penalty",
    "maximum_likelihood_energy",
    "multiplicative_angular_margin",
    "normalize",
    "normalize_logits",
    "normalized_sigmoid",
    "plain_rival_terms",
    "projection_energy",
    "random_grouping",
    "reduce_loss",
    "rival_logsumexp",
    "rival_terms",
    "rule_of_thumb_kappa",
    "rule_of_thumb_of_mean",
    "sample_weight",
    "search_least_squares",
    "search_likelihood_of_means",
    "search_maximum_likelihood",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "uniform_target",
    "von_mises_fisher_bound",
    "von_mises_fisher_log_normalizer",
    "von_mises_fisher_log_ratio",
    "weight_penalty",
]
