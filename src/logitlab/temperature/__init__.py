"""How κ is chosen: fixed, trained, or by a rule from the cosines and the class weights."""

from .adacos import AdaCos
from .base import Temperature
from .by_name import (
    NUMBERED,
    REGISTERED_TEMPERATURES,
    TEMPERATURES,
    create_temperature,
    number_refused,
    register_temperature,
)
from .fixed import Fixed
from .least_squares import LeastSquares, SearchReport
from .maximum_likelihood import MaximumLikelihood
from .rule_of_thumb import RuleOfThumb
from .running_mean import RunningMean
from .trainable import Trainable

__all__ = [
    "NUMBERED",
    "REGISTERED_TEMPERATURES",
    "TEMPERATURES",
    "AdaCos",
    "Fixed",
    "LeastSquares",
    "MaximumLikelihood",
    "RuleOfThumb",
    "RunningMean",
    "SearchReport",
    "Temperature",
    "Trainable",
    "create_temperature",
    "number_refused",
    "register_temperature",
]
