"""How κ is chosen: fixed, trained, or by least squares for each sample."""

from .base import Temperature
from .by_name import TEMPERATURES, create_temperature
from .fixed import Fixed
from .least_squares import LeastSquares
from .running_mean import RunningMean
from .trainable import Trainable

__all__ = [
    "TEMPERATURES",
    "Fixed",
    "LeastSquares",
    "RunningMean",
    "Temperature",
    "Trainable",
    "create_temperature",
]
