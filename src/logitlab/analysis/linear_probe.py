"""Linear probe: how well a linear classifier on frozen features solves another task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from logitlab.config.errors import InputError
from logitlab.config.names import unknown_name

from .arrays import ArrayLike, Rows, read_labels
from .logistic_path import LogisticRegression, Solution
from .principal_axes import Axes
from .probe_data import class_labels, training_set, unseen_classes
from .result import Result

Variant = Literal["kornblith", "kobayashi"]

# W A.2: 45 values, logarithmically spaced between 1e-6 and 1e5. TS §7 names no penalty: that of scikit-learn, C = 1.
_STRENGTHS = tuple(10.0 ** (-6 + 11 * step / 44) for step in range(45))
_KOBAYASHI_STRENGTH = 1.0

# Ties that span this factor say that the hold-out hardly decides.
_WIDE_TIE = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearProbe(Result):
    """Accuracy of a linear probe, and all that led to it.

    Attributes:
        value: test accuracy of the classifier fitted to the whole training set.
        variant: the protocol.
        strength: λ of that classifier.
        strengths: λ of the path, increasing, ``[L]``.
        validation_accuracy: on the held-out part for each of them, ``[L]``; NaN where nothing was held out.
        iterations: of each run, ``[L]``.
        gradient_norm: of the objective where each run ended, relative to that at W = 0, ``[L]``.
        converged: whether each ended at its solution, as far as ``tolerance`` asks, ``[L]``.
        tolerance: what was asked for.
        tied: the strengths that share the best hold-out accuracy; the largest of them is ``strength``.
        at_edge: ``strength`` is the first or the last of the path, so that a better one may lie outside.
        validation_count: samples held out.
        refit_iterations: of the last run, on the whole training set.
        refit_gradient_norm: where it ended.
        refit_converged: whether ``value`` is that of the solution.
        classes: the labels that the rows of ``weight`` stand for, increasing, ``[C]``.
        weight: for the features as they were given, ``[C, D]``.
        bias: ``[C]``.
    """

    name: ClassVar[str] = "linear_probe"

    value: float
    variant: Variant
    strength: float
    strengths: Tensor
    validation_accuracy: Tensor
    iterations: Tensor
    gradient_norm: Tensor
    converged: Tensor
    tolerance: float
    tied: Tensor
    at_edge: bool
    validation_count: int
    refit_iterations: int
    refit_gradient_norm: float
    refit_converged: bool
    classes: Tensor
    weight: Tensor = field(metadata={"json": False})
    bias: Tensor = field(metadata={"json": False})

    @property
    def headline(self) -> str:
        """Accuracy and strength."""
        return f"{self.value:.4g} at strength {self.strength:.4g}"


def linear_probe(
    x_train: ArrayLike,
    y_train: ArrayLike,
    x_test: ArrayLike,
    y_test: ArrayLike,
    *,
    x_validation: ArrayLike | None = None,
    y_validation: ArrayLike | None = None,
    validation_fraction: float = 0.2,
    seed: int = 0,
    variant: Variant = "kornblith",
    strengths: Sequence[float] | float | None = None,
    device: torch.device | str | None = None,
    max_iterations: int = 5000,
    tolerance: float = 1e-10,
    split: str | None = None,
) -> LinearProbe:
    r"""Fit multinomial logistic regression to frozen features, and measure it on the test set.

    .. math:: \min_{W, b} \sum_i -\log \mathrm{softmax}(W \mathbf x_i + \mathbf b)_{y_i} + \frac\lambda2 \|W\|^2

    The bias is free, and the features stay as they are: standardising them would change the penalty.

    ``"kornblith"``: solve for all λ in increasing order on a part of the training set, each from the solutions
    before it; take the λ that is best on the part held out; fit to the whole training set with it. Of equal
    accuracies the largest λ is taken, the simplest of the classifiers that cannot be told apart; the paper names
    neither this rule nor the size of the hold-out. Here a share of each class is drawn at random, and every class
    keeps at least one sample to fit to. ``"kobayashi"``: one run of L-BFGS from W = 0 on the whole training set, no
    path and no choice. The paper states no penalty; 1 is the default of scikit-learn, C = 1/λ.

    A run ends when the norm of the gradient is ``tolerance`` times that at W = 0 (features centred, which the free
    bias allows), or when the steps that gradient and curvature suggest would move the logits by less than
    10⁴ ``tolerance`` of their size. The latter is what the penalty makes of the former: on separable features, which
    are the rule for small sets, next to nothing but the penalty curves the objective at the end, and a gradient that
    is small beside the first says little. Absolute tolerances end the first run there long before a penalty of 1e-6
    is felt, and the runs from there do nothing: the accuracy then belongs to the stopping rule. ``converged`` and
    ``gradient_norm`` tell where each run ended; a run that did not converge is said in the warnings.

    The training features are held on the device twice in float64 and once in float32, with some arrays of N x C; an
    iteration costs two products of N x min(N, D) by min(N, D) x C.

    Args:
        x_train: features, ``[N, D]``.
        y_train: labels, integers ``[N]``; gaps are allowed.
        x_test: ``[M, D]``; read in chunks.
        y_test: ``[M]``.
        x_validation: held-out samples of the training set, ``[V, D]``; the last fit has them too. Without them
            a part of ``x_train`` is held out.
        y_validation: ``[V]``.
        validation_fraction: the part to hold out, in (0, 1).
        seed: of the hold-out.
        variant: the protocol of W (Kornblith et al.) or of T (Kobayashi).
        strengths: λ > 0: the path, by default W's 45 values from 1e-6 to 1e5; with ``"kobayashi"`` one value.
        device: where to compute; by default where ``x_train`` is.
        max_iterations: of each run.
        tolerance: of a run's end, see above.
        split: the part of the data, kept in the result.

    Returns:
        Accuracy, a fraction in [0, 1], with the path. A test sample whose class does not occur in training counts
        as wrong, with a warning.

    Raises:
        InputError: NaN or infinity, shapes that do not fit, arguments out of range, or no test label that occurs
            in training.
        UndefinedError: one class in training.

    References:
        W A.2 and Table 5; Kornblith et al., "Do better ImageNet models transfer better?", 2019; TS §7 and T Table 4a.

    >>> x, y = [[0.0], [1.0], [2.0], [3.0]] * 5, [0, 0, 1, 1] * 5
    >>> print(linear_probe(x, y, [[0.5], [2.5]], [0, 1], variant="kobayashi"))
    linear_probe 1 at strength 1 (L-BFGS at one strength, 1, no path; n = 2)
    """
    if variant not in get_args(Variant):
        raise InputError(unknown_name("variant", str(variant), get_args(Variant)))
    path = _strengths(strengths, variant)
    if not 0 < tolerance < 1:
        raise InputError(f"Expected 'tolerance' between 0 and 1. Got {tolerance}.")
    if max_iterations < 1:
        raise InputError(f"Expected 'max_iterations' of at least 1. Got {max_iterations}.")
    given = (x_train, y_train, x_validation, y_validation)
    x, labels, held = training_set(
        *given, choose=variant == "kornblith", fraction=validation_fraction, seed=seed, device=device
    )
    test = Rows(x_test, "x_test")
    test_labels = read_labels(y_test, "y_test", len(test)).to(x.device)
    if test.shape[1] != x.shape[1]:
        raise InputError(f"Expected 'x_test' with {x.shape[1]} columns as 'x_train'. Got {test.shape[1]}.")
    classes = class_labels(labels)
    if not bool(torch.isin(test_labels, classes).any()):
        raise InputError("Expected labels in 'y_test' that occur in 'y_train'. Got none: are they of the same task?")

    warnings: list[str] = []
    runs: list[Solution] = []
    correct: list[int] = []
    best = 0
    start: tuple[Tensor, Tensor] | None = None
    if variant == "kornblith":
        known = class_labels(labels[~held])
        warnings += unseen_classes(labels[held], known, "held-out")
        axes, problem = _problem(x[~held], labels[~held], known)
        x_held, y_held = x[held], labels[held]
        for position, solution in enumerate(problem.path(path, tolerance, max_iterations)):
            fitted = axes.original(solution.point.parameters)
            runs.append(solution)
            correct.append(_correct(x_held, y_held, known, *fitted))
            if correct[position] >= correct[best]:
                # Weights for a class that the held-out part alone has are not there to start from.
                best, start = position, fitted if len(known) == len(classes) else None
        del axes, problem, x_held  # room for those of the last fit
    strength = path[best]
    axes, problem = _problem(x, labels, classes)
    del x
    first = problem.zero() if start is None else axes.parameters(*start)
    last = problem.solve(problem.base(first, strength), strength, tolerance, max_iterations)
    runs = runs or [last]
    weight, bias = axes.original(last.point.parameters)
    right = sum(
        _correct(chunk.to(weight.device), test_labels[where], classes, weight, bias) for where, chunk in test.chunks()
    )

    tied = [value for value, count in zip(path, correct) if count == correct[best]]
    at_edge = len(path) > 1 and best in (0, len(path) - 1)
    warnings += unseen_classes(test_labels, classes, "test")
    warnings += _doubts(path, runs, last, tied, strength, tolerance, max_iterations, at_edge=at_edge)
    count = int(held.sum())
    return LinearProbe(
        convention=_convention(path, variant, given_validation=x_validation is not None),
        n=len(test),
        split=split,
        warnings=tuple(warnings),
        value=right / len(test),
        variant=variant,
        strength=strength,
        strengths=torch.tensor(path, dtype=torch.float64),
        validation_accuracy=torch.tensor(correct or [math.nan], dtype=torch.float64) / max(count, 1),
        iterations=torch.tensor([run.iterations for run in runs]),
        gradient_norm=torch.tensor([run.gradient_norm for run in runs], dtype=torch.float64),
        converged=torch.tensor([run.converged for run in runs]),
        tolerance=tolerance,
        tied=torch.tensor(tied, dtype=torch.float64),
        at_edge=at_edge,
        validation_count=count,
        refit_iterations=last.iterations,
        refit_gradient_norm=last.gradient_norm,
        refit_converged=last.converged,
        classes=classes.cpu(),
        weight=weight.cpu(),
        bias=bias.cpu(),
    )


def _strengths(strengths: Sequence[float] | float | None, variant: Variant) -> tuple[float, ...]:
    if strengths is None:
        return _STRENGTHS if variant == "kornblith" else (_KOBAYASHI_STRENGTH,)
    given = [float(value) for value in ([strengths] if isinstance(strengths, (int, float)) else strengths)]
    # On separable features nothing is the smallest where the penalty is 0.
    if not given or not all(0 < value < math.inf for value in given):
        raise InputError(f"Expected 'strengths' above 0 and finite, at least one. Got {given}.")
    if len(set(given)) < len(given):
        raise InputError(f"Expected 'strengths' that differ. Got {sorted(given)}.")
    if variant == "kobayashi" and len(given) > 1:
        raise InputError(f"Expected one strength for the variant 'kobayashi', which has no path. Got {len(given)}.")
    return tuple(sorted(given))


def _problem(x: Tensor, labels: Tensor, classes: Tensor) -> tuple[Axes, LogisticRegression]:
    axes, rotated = Axes.of(x)
    return axes, LogisticRegression(rotated, torch.searchsorted(classes, labels), len(classes))


def _correct(x: Tensor, labels: Tensor, classes: Tensor, weight: Tensor, bias: Tensor) -> int:
    """How many have their label as the class with the largest logit; of equal ones the lower class."""
    return int((classes[(x @ weight.T + bias).argmax(dim=1)] == labels).sum())


def _convention(path: Sequence[float], variant: Variant, *, given_validation: bool) -> str:
    if variant == "kobayashi":
        return f"L-BFGS at one strength, {path[0]:.4g}, no path"
    held = "the validation samples given" if given_validation else "a part held out"
    return (
        f"L2 path of {len(path)} strengths from {path[0]:.4g} to {path[-1]:.4g}, increasing, the largest of the best "
        f"on {held}, refitted on all"
    )


def _doubts(
    path: Sequence[float],
    runs: Sequence[Solution],
    last: Solution,
    tied: Sequence[float],
    strength: float,
    tolerance: float,
    max_iterations: int,
    *,
    at_edge: bool,
) -> list[str]:
    """Say where a number is not what it is called."""
    said = []
    if failed := [value for value, run in zip(path, runs) if not run.converged]:
        values = ", ".join(f"{value:.4g}" for value in failed)
        said.append(
            f"Not converged to {tolerance:.0e} within {max_iterations} iterations at strength {values}: what was "
            "measured there is not the solution's."
        )
    if not last.converged and last is not runs[0]:
        said.append(
            f"The last fit did not converge: its gradient is {last.gradient_norm:.1e} of the first. "
            "The accuracy is not the solution's."
        )
    if at_edge:
        said.append(f"The strength {strength:.4g} lies at the edge of the path: a better one may lie outside.")
    if tied and tied[-1] >= _WIDE_TIE * tied[0]:
        said.append(
            f"{len(tied)} strengths from {tied[0]:.4g} to {tied[-1]:.4g} share the best accuracy on what was held out: "
            "it hardly decides between them."
        )
    return said
