"""Class by class: confusion counts, accuracies, and the pairs that are confused most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .artefacts import HeadArtefacts

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Confused:
    """One cell beside the diagonal of a confusion matrix.

    Attributes:
        head: label of the head.
        true: number of the true class.
        predicted: number of the predicted one.
        count: how many images, over all seeds.
        share: of the images of the true class.
    """

    head: str
    true: int
    predicted: int
    count: int
    share: float


def confusion_counts(head: HeadArtefacts, classes: int) -> NDArray[numpy.int64]:
    """Count images by true and predicted class, all readable seeds together.

    Args:
        head: with outputs.
        classes: how many classes there are.
    """
    import numpy

    labels, predicted = head.pooled("labels").astype(int), head.pooled("predicted").astype(int)
    return numpy.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracies(counts: NDArray[numpy.int64]) -> NDArray[numpy.float64]:
    """Return the accuracy of each class; NaN where the class has no test image.

    >>> import numpy
    >>> accuracies(numpy.array([[3, 1], [0, 2]])).tolist()
    [0.75, 1.0]
    """
    import numpy

    with numpy.errstate(invalid="ignore"):
        shares: NDArray[numpy.float64] = numpy.diag(counts) / counts.sum(axis=1)
    return shares


def most_confused(label: str, counts: NDArray[numpy.int64], number: int) -> list[Confused]:
    """Return the pairs that are confused most often.

    Args:
        label: of the head.
        counts: images by true and predicted class.
        number: at most this many pairs.
    """
    import numpy

    mistakes = counts.copy()
    numpy.fill_diagonal(mistakes, 0)
    totals = counts.sum(axis=1)
    # A stable sort, so that equal pairs stand in the order of their classes.
    places = numpy.argsort(-mistakes, axis=None, kind="stable")[:number]
    pairs = zip(*numpy.unravel_index(places, mistakes.shape))
    return [
        Confused(label, int(true), int(said), int(mistakes[true, said]), float(mistakes[true, said] / totals[true]))
        for true, said in pairs
        if mistakes[true, said]
    ]
