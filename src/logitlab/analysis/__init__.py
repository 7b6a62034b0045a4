"""Arrays in, numbers out: what a trained head is worth. NumPy or torch; torch alone is needed to import."""

from __future__ import annotations

from .accuracy import accuracy
from .agreement import AgreementKind, AgreementMatrix, agreement, agreement_matrix
from .angles import AngleHistogram, angle_histogram, class_angle, span_angle
from .calibration import expected_calibration_error, negative_log_likelihood
from .cka import CkaMatrix, cka_matrix, linear_cka, minibatch_cka
from .clustering import Dendrogram, Linkage, cluster_models
from .confidence import misclassification_ap
from .corruption_error import ALEXNET_ERRORS, CorruptionError, mean_corruption_error
from .curves import PrecisionRecall, RiskCoverage, precision_recall, risk_coverage
from .densities import CosineDensities, cosine_densities
from .ensembles import MixedEnsembles, ensemble_accuracy, mixed_ensembles, modal_vote
from .feature_scores import feature_norm, kappa_star, projection_residual
from .hardness import AngularVisualHardness, angular_visual_hardness
from .hull import HullProjection, hull_projection
from .linear_probe import LinearProbe, linear_probe
from .loss_by_cosine import LossByCosine, loss_by_cosine, simplified_loss
from .mahalanobis import MahalanobisFit, fit_mahalanobis
from .measurement import Measurement, UndefinedError
from .ood import ood_ap
from .pairs import AllPairsVerification, PairMetric, all_pairs_verification, pair_scores
from .per_class import balanced_accuracy, per_class_accuracy
from .probabilities import ProbabilityLink, log_probabilities
from .rank import Rule, feature_rank
from .reliability import Reliability, reliability
from .scores import (
    confidence_scores,
    energy,
    max_logit,
    max_probability,
    max_scaled_logit,
    negative_entropy,
)
from .separation import Distance, class_separation, separation_by_layer
from .sparse_softmax import SparseSoftmax, sparse_kappa, sparse_softmax
from .sparsity import SparsityCounter, activation_sparsity
from .spectra import Spectrum, class_centroids, singular_values
from .temperature_fit import TemperatureFit, fit_temperature
from .temperature_scaling import TemperatureScaling, temperature_scaling
from .verification import ThresholdGrid, Verification, verification

__all__ = [
    "ALEXNET_ERRORS",
    "AgreementKind",
    "AgreementMatrix",
    "AllPairsVerification",
    "AngleHistogram",
    "AngularVisualHardness",
    "CkaMatrix",
    "CorruptionError",
    "CosineDensities",
    "Dendrogram",
    "Distance",
    "HullProjection",
    "LinearProbe",
    "Linkage",
    "LossByCosine",
    "MahalanobisFit",
    "Measurement",
    "MixedEnsembles",
    "PairMetric",
    "PrecisionRecall",
    "ProbabilityLink",
    "Reliability",
    "RiskCoverage",
    "Rule",
    "SparseSoftmax",
    "SparsityCounter",
    "Spectrum",
    "TemperatureFit",
    "TemperatureScaling",
    "ThresholdGrid",
    "UndefinedError",
    "Verification",
    "accuracy",
    "activation_sparsity",
    "agreement",
    "agreement_matrix",
    "all_pairs_verification",
    "angle_histogram",
    "angular_visual_hardness",
    "balanced_accuracy",
    "cka_matrix",
    "class_angle",
    "class_centroids",
    "class_separation",
    "cluster_models",
    "confidence_scores",
    "cosine_densities",
    "energy",
    "ensemble_accuracy",
    "expected_calibration_error",
    "feature_norm",
    "feature_rank",
    "fit_mahalanobis",
    "fit_temperature",
    "hull_projection",
    "kappa_star",
    "linear_cka",
    "linear_probe",
    "log_probabilities",
    "loss_by_cosine",
    "max_logit",
    "max_probability",
    "max_scaled_logit",
    "mean_corruption_error",
    "minibatch_cka",
    "misclassification_ap",
    "mixed_ensembles",
    "modal_vote",
    "negative_entropy",
    "negative_log_likelihood",
    "ood_ap",
    "pair_scores",
    "per_class_accuracy",
    "precision_recall",
    "projection_residual",
    "reliability",
    "risk_coverage",
    "separation_by_layer",
    "simplified_loss",
    "singular_values",
    "span_angle",
    "sparse_kappa",
    "sparse_softmax",
    "temperature_scaling",
    "verification",
]
