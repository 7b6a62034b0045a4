"""A classification loss of pytorch-metric-learning as a head, so that comparisons can include it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from logitlab.config.errors import ConfigurationError, InputError, ParameterError
from logitlab.config.parameters import parameter_fault
from logitlab.functional import (
    Reduction,
    at_least_float32,
    autocast_off,
    check_target,
    is_soft,
    reduce_loss,
    sample_weight,
)
from logitlab.losses import Link
from logitlab.temperature import Temperature

from .fusing import Path
from .head import Head
from .parameters import class_weight_tensor, find_faults


class MetricLearningHead(Head):
    """All that follows the features, by a loss of pytorch-metric-learning that owns a classifier weight.

    Logits are what its ``get_logits`` gives: no margin, and for ``SoftTripleLoss`` without its factor ``la``. The loss
    is its own, sample by sample; the head reduces it, with class weights and ignored samples as every head does, and
    adds its regularizers to every sample. Formulas and numerics are theirs: NaN gradients at a cosine of ±1, waiting
    for the GPU in each step, no ``fullgraph`` compilation. Their habit of casting the weight to the dtype of the
    features is kept out: all is computed in float32 at least, with autocast off, and parameters keep their dtype.

    To compare one with other heads by name, register it (``logitlab compare --plugin`` imports the file)::

        from pytorch_metric_learning import losses

        @ll.register_head("pml_cosface")
        def pml_cosface(in_features, num_classes, margin=0.35, scale=64.0):
            loss = losses.CosFaceLoss(num_classes, in_features, margin=margin, scale=scale)
            return ll.MetricLearningHead(in_features, num_classes, loss)

    Args:
        in_features: D, length of a feature vector.
        num_classes: C.
        loss: a loss with a weight ``W`` or ``fc`` and ``get_logits``, such as ``CosFaceLoss``, ``ArcFaceLoss``,
            ``SubCenterArcFaceLoss``, ``SphereFaceLoss``, ``LargeMarginSoftmaxLoss``, ``NormalizedSoftmaxLoss`` or
            ``SoftTripleLoss``; or what makes one from ``num_classes`` and ``embedding_size``: its class, or a
            ``functools.partial``. The head takes it over and replaces its reducer.
        class_weight: positive factor a class, C of them; divides as in ``torch.nn.functional.cross_entropy``.
        ignore_index: class index of samples that do not count.

    Attributes:
        metric_loss: the loss of pytorch-metric-learning; its parameters are the head's, saved with the model.
        centers: rows of weight a class.
        classifier: ``"cosine"`` where logits do not grow with the feature, else ``"linear"``.

    Raises:
        ParameterError: every fault at once; a loss without a classifier weight or without one loss a sample.
        ConfigurationError: pytorch-metric-learning is not installed.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        loss: nn.Module | Callable[..., nn.Module],
        *,
        class_weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
    ) -> None:
        # Not Head's: there is no weight to make beside theirs.
        nn.Module.__init__(self)
        owner = type(self).__name__
        values = {key: parameter.default for key, parameter in inspect.signature(Head).parameters.items()}
        own = {"in_features": in_features, "num_classes": num_classes, "class_weight": class_weight}
        faults = find_faults(owner, {**values, **own, "ignore_index": ignore_index})
        if faults:
            raise ParameterError(faults)
        self._make = None if isinstance(loss, nn.Module) else loss
        self._arguments = {"class_weight": class_weight}
        self.in_features, self.num_classes = int(in_features), int(num_classes)
        self.ignore_index = ignore_index
        self.keep_probability, self.weight_penalty, self.loss_scale = 1.0, 0.0, 1.0
        self.normalize_logits, self.inference_kappa = False, "mean"
        self.temperature, self.margin = None, None
        self.register_parameter("bias", None)
        self.theirs = _Theirs(_checked(owner, loss, self.in_features, self.num_classes))
        weights = class_weight_tensor(class_weight)
        self.register_buffer("class_weight", None if weights is None else weights.to(self.weight.device))
        self.centers = self.weight.shape[0] // self.num_classes
        self.classifier = "cosine" if self._probe() else "linear"

    @property
    def metric_loss(self) -> Any:
        """The loss of pytorch-metric-learning."""
        return self.theirs.loss

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """Their weight, laid out as in ``nn.Linear``: a view ``[C * centers, D]``."""
        weight = _weight_of(self.theirs.loss)
        assert weight is not None
        return weight.t()

    @property
    def link(self) -> Link:
        """Theirs are softmax cross-entropies."""
        return "softmax"

    def reset_parameters(self) -> None:
        """Draw the weight as their loss does."""
        with torch.no_grad():
            self.metric_loss.weight_init_func(_weight_of(self.metric_loss))
            given = class_weight_tensor(self._arguments["class_weight"])
            if self.class_weight is not None and given is not None:
                self.class_weight.copy_(given)

    def path(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        return_logits: bool = False,
    ) -> Path:
        """Theirs is plain autograd; see ``Head.path``."""
        return Path("plain", f"{type(self.metric_loss).__name__} of pytorch-metric-learning computes its own loss")

    def set_temperature(self, temperature: Temperature) -> None:
        """Refused: the scale is a parameter of their loss."""
        raise ParameterError(
            f"{type(self.metric_loss).__name__} has a scale of its own and takes no temperature. Got {temperature!r}."
        )

    def for_classes(self, num_classes: int) -> MetricLearningHead:
        """A fresh head of the same kind for another number of classes.

        Args:
            num_classes: the new C.

        Raises:
            ParameterError: ``num_classes`` is out of range, this head has a weight for each class, or was given a loss
                and not what makes one.
        """
        if self._make is None:
            raise ParameterError(
                f"This head was given a {type(self.metric_loss).__name__} for {self.num_classes} classes and cannot "
                "make another. Give MetricLearningHead the class of the loss, or a functools.partial of it."
            )
        options = {**self._arguments, "ignore_index": self.ignore_index}
        head = type(self)(self.in_features, num_classes, self._make, **options)
        return head.to(self.weight.device, self.weight.dtype).train(self.training)

    def forward(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        reduction: Reduction = "mean",
        return_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits without a target, their loss with one.

        Args:
            features: shape ``[..., D]``, any floating dtype.
            target: class indices ``[...]``; probabilities are refused.
            kappa: refused; the scale is a parameter of their loss.
            reduction: of the loss: ``"mean"``, ``"sum"`` or ``"none"`` (one loss a sample, regularizers included).
            return_logits: give ``(loss, logits)``.

        Returns:
            Logits ``[..., C]`` in float32 at least; or the loss; or both.

        Raises:
            InputError: shapes, dtypes or values that do not fit.
        """
        self._check_features(features)
        if kappa is not None:
            raise InputError("Got 'kappa' for a head without a temperature. Leave it out.")
        if features.device != self.weight.device:  # they would move the weight
            raise InputError(f"Expected features on {self.weight.device}, as the weight. Got {features.device}.")
        with autocast_off(features.device):
            features = features.to(at_least_float32(features, self.weight))
            shape = (*features.shape[:-1], self.num_classes)
            logits: Tensor | None = None
            if target is None or return_logits:
                logits = self._call(features).reshape(shape)
            if target is None:
                assert logits is not None
                return logits
            like = features.new_zeros(()).expand(shape) if logits is None else logits
            loss = self._reduced(features, check_target(target, like, self.ignore_index), reduction)
        return loss if logits is None else (loss, logits)

    def extra_repr(self) -> str:
        """Show the shape."""
        return f"{self.in_features}, {self.num_classes}, classifier={self.classifier!r}"

    def _call(self, features: Tensor, target: Tensor | None = None) -> Any:
        """Theirs, on rows of features, with parameters of the same dtype: they leave such parameters as they are."""
        arguments = (features.reshape(-1, self.in_features), None if target is None else target.reshape(-1))
        parameters = dict(self.theirs.named_parameters())
        if all(parameter.dtype == features.dtype for parameter in parameters.values()):
            return self.theirs(*arguments)
        widened = {name: parameter.to(features.dtype) for name, parameter in parameters.items()}
        return functional_call(self.theirs, widened, arguments)

    def _reduced(self, features: Tensor, target: Tensor, reduction: Reduction) -> Tensor:
        if is_soft(target):
            name = type(self.metric_loss).__name__
            raise InputError(f"{name} takes class indices only. Got probabilities (label smoothing, Mixup?).")
        # An ignored sample needs some class to index with; its loss is dropped by reduce_loss.
        safe = torch.where(target == self.ignore_index, 0, target)
        found = self._call(features, safe)
        loss = found.pop("loss")["losses"].reshape(target.shape)
        weight = None if self.class_weight is None else self.class_weight.to(loss.dtype)
        of_sample: Any = 1 if weight is None else sample_weight(safe, weight)
        # Their regularizers are scalars that stand beside the mean; here the mean gains just them.
        loss = (loss + sum(part["losses"] for part in found.values())) * of_sample
        return reduce_loss(loss, target, reduction, class_weight=weight, ignore_index=self.ignore_index)

    @torch.no_grad()
    def _probe(self) -> bool:
        """Call theirs once: see that logits and losses have their shapes; say whether logits are scaled cosines."""
        name = type(self.metric_loss).__name__
        features = torch.arange(2.0 * self.in_features, device=self.weight.device).sin().reshape(2, -1)
        features = features.to(at_least_float32(self.weight))
        logits = self._call(features)
        found = self._call(features, torch.tensor([0, self.num_classes - 1], device=features.device))
        loss = found.pop("loss", None)
        whole = all(part["reduction_type"] == "already_reduced" for part in found.values())
        if loss is None or loss["reduction_type"] != "element" or loss["losses"].shape != (2,) or not whole:
            raise ParameterError(f"MetricLearningHead needs one loss a sample, which {name} does not give.")
        if logits.shape != (2, self.num_classes):
            raise ParameterError(
                f"Expected get_logits of {name} to give [2, {self.num_classes}]. Got {[*logits.shape]}."
            )
        return bool(torch.allclose(self._call(4 * features), logits, rtol=1e-4, atol=1e-5))


class _Theirs(nn.Module):
    """Logits and losses by one forward, which ``functional_call`` needs."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss: Any = loss

    def forward(self, features: Tensor, target: Tensor | None = None) -> Any:
        return self.loss.get_logits(features) if target is None else dict(self.loss(features, target))


def _weight_of(loss: Any) -> nn.Parameter | None:
    """The classifier weight of a loss, ``[D, C * centers]``; None where there is none."""
    found = (getattr(loss, name, None) for name in ("W", "fc"))
    return next((weight for weight in found if isinstance(weight, nn.Parameter) and weight.ndim == 2), None)


def _checked(owner: str, loss: Any, in_features: int, num_classes: int) -> nn.Module:
    """Their loss with a reducer that leaves each sample its own, made if need be."""
    try:
        base = import_module("pytorch_metric_learning.losses").BaseMetricLossFunction
        reducers = import_module("pytorch_metric_learning.reducers")
    except ImportError as fault:
        raise ConfigurationError(
            f"{owner} needs pytorch-metric-learning ({fault}). Install it with: pip install 'logitlab[metric-learning]'"
        ) from fault
    if not isinstance(loss, nn.Module) and callable(loss):
        try:
            loss = loss(num_classes=num_classes, embedding_size=in_features)
        except TypeError as fault:
            raise ParameterError(
                f"{owner} could not make a loss from num_classes={num_classes}, embedding_size={in_features}: {fault}. "
                "Give a classification loss, such as CosFaceLoss."
            ) from fault
    if not isinstance(loss, base):
        expected = "a classification loss of pytorch-metric-learning, such as CosFaceLoss, or its class"
        raise ParameterError(parameter_fault(owner, "loss", expected, loss))
    name, weight = type(loss).__name__, _weight_of(loss)
    if weight is None or not hasattr(loss, "get_logits"):
        raise ParameterError(
            f"{owner} needs a loss with a classifier weight, 'W' or 'fc', and logits by 'get_logits', such as "
            f"CosFaceLoss. {name} has none: it compares samples, or proxies."
        )
    if weight.shape[0] != in_features or weight.shape[1] % num_classes:
        raise ParameterError(
            f"{owner} expected the weight of {name} to be [{in_features}, {num_classes}], D and C. "
            f"Got {[*weight.shape]}. Build it with num_classes={num_classes}, embedding_size={in_features}."
        )
    parts = [loss.reducer]
    if isinstance(loss.reducer, reducers.MultipleReducers):
        parts = [*loss.reducer.reducers.values(), loss.reducer.default_reducer]
    other = [
        type(part).__name__ for part in parts if type(part) not in (reducers.MeanReducer, reducers.DoNothingReducer)
    ]
    if other:
        raise ParameterError(
            f"{owner} reduces losses itself and takes no {other[0]}. Leave it out; the head has 'class_weight' and "
            "'reduction'."
        )
    loss.reducer = reducers.DoNothingReducer()
    return cast(nn.Module, loss)
