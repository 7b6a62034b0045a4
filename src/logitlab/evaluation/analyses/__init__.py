"""Every measure of one model by name: from its passes to plain values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ..measurements import MEASUREMENTS, measure_by
from ..subjects import Subject
from . import answers, geometry, plane, representations, temperature, transfer
from .requests import Measure, Request, plain_entry, right
from .strange import out_of_distribution

#: Measures of one model; the keys are ``logitlab.records.analysis.MEASURE_NAMES``.
MEASURES: dict[str, Measure] = {
    "accuracy": answers.accuracy,
    "calibration": answers.calibration,
    "reliability": answers.reliability,
    "separation": representations.separation,
    "separation_by_layer": representations.separation_by_layer,
    "sparsity_by_layer": representations.sparsity_by_layer,
    "class_angle": geometry.class_angle,
    "span_angle": geometry.span_angle,
    "angle_histogram": geometry.angle_histogram,
    "rank": representations.rank,
    "spectra": representations.spectra,
    "densities": representations.densities,
    "hardness": geometry.hardness,
    "hull": geometry.hull,
    "misclassification": answers.misclassification,
    "precision_recall": answers.precision_recall,
    "risk_coverage": answers.risk_coverage,
    "tsne": representations.tsne,
    "plane": plane.plane,
    "loss_by_cosine": temperature.loss_by_cosine,
    "sparse_softmax": temperature.sparse_softmax,
    "probe": transfer.probe,
    "corruption": transfer.corruption,
}

#: Measures that are made for some models; each says why it suits another one not, or None.
PARTICULAR: dict[str, Callable[[Subject], str | None]] = {
    "plane": plane.unsuited_to_plane,
    "loss_by_cosine": temperature.unsuited_to_loss_by_cosine,
}


def find_measures() -> dict[str, Measure]:
    """Return every measure of one model by name: those above, then those that users registered."""
    return {**MEASURES, **{name: partial(_registered, name) for name in MEASUREMENTS.names()}}


def _registered(name: str, subject: Subject, request: Request) -> dict[str, object]:
    return measure_by(name, subject)


__all__ = [
    "MEASURES",
    "PARTICULAR",
    "Measure",
    "Request",
    "find_measures",
    "out_of_distribution",
    "plain_entry",
    "right",
]
