"""The checks, by theme; importing this package fills the catalogue, in this order."""

# isort: off
from . import shapes
from . import reduction
from . import targets
from . import symmetry
from . import gradients
from . import temperature
from . import margin
from . import extremes
from . import precision
from . import copies
from . import compiled
from . import generated
# isort: on

__all__ = [
    "compiled",
    "copies",
    "extremes",
    "generated",
    "gradients",
    "margin",
    "precision",
    "reduction",
    "shapes",
    "symmetry",
    "targets",
    "temperature",
]
