"""The head: feature dropout, classifier, logit transform, temperature, loss and penalties in one module."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from logitlab.config.errors import ParameterError
from logitlab.functional import (
    Reduction,
    at_least_float32,
    autocast_off,
    check_target,
    weight_penalty,
)
from logitlab.losses import Link, LogitAdjustment, Loss
from logitlab.margins import AdditiveAngularMargin, AdditiveCosineMargin, Margin, follow_optimizer
from logitlab.temperature import Temperature, create_temperature

from .compose_loss import compose_loss
from .fusing import Fused, fused_loss
from .parameters import class_weight_tensor, find_faults
from .scores import Scores, logits_of_target
from .scoring import Scoring


class Head(Scoring):
    r"""All that follows the features: weight, temperature and loss, for single-label classification.

    .. math:: \text{features} \to \text{dropout} \to \mathbf{Wx} + \mathbf b \text{ or } \kappa \cos(\mathbf x,
        \mathbf w_c) + b_c \to \text{logits } \ell \to \text{margin} \to L(\ell, t) + \text{penalties}

    ``head(features)`` gives logits, ``head(features, target)`` the loss. The parts combine freely, as in W Table
    C.1; a combination that means nothing is refused in words. Everything is computed in float32 at least with
    autocast off; the parameters keep the dtype that the user gave them.

    Args:
        in_features: D, length of a feature vector.
        num_classes: C.
        classifier: ``"linear"``: Wx + b (W (1)); ``"cosine"``: κ cos + b (W (7), T (1), (2)); ``"unit_weight"``:
            ‖x‖ cos, with a weight of unit rows and the length of the feature (SphereFace).
        loss: ``"softmax"`` (W (1)), ``"sigmoid"`` (W (8)), ``"squared_error"`` (W (10)), ``"focal"``, or a
            ``losses.Loss``.
        temperature: of a cosine head or of normalized logits: a ``Temperature``, or ``"fixed"``,
            ``"trainable"``, ``"least_squares"``, ``"maximum_likelihood"``, ``"rule_of_thumb"``, ``"adacos"``,
            ``"adacos_dynamic"``. All but the first two are for cosines only.
        margin: lowers the target's logit where there is a target, in training and evaluation; a ``margins.Margin``.
            Logits without a target, and the choice of κ, know nothing of it.
        centers: rows of weight a class; its cosine is the largest of theirs (sub-centre ArcFace). Above 1 for cosines
            with a temperature that does not choose κ for each sample.
        kappa: the number of a fixed temperature, or the start of a trainable one; positive.
        tau: 1/κ, instead of ``kappa``.
        normalize_logits: divide linear logits by their length before the temperature (W (6)).
        keep_probability: ρ in (0, 1]: features are kept with this probability in training and divided by it
            (W (4)).
        alpha: α in [0, 1) of label smoothing (W (2)).
        beta: β >= 0 of the penalty β‖ℓ‖² (W (5)).
        weight_penalty: λ_final >= 0 of the penalty λ_final/2 ‖W‖² (W §2), on the weight and not the bias.
        bias: whether classes have a bias; None: linear heads and sigmoid have one, others none.
            It starts at zero, for sigmoid at -log C (W §2).
        loss_scale: positive factor on the loss and the logit penalty (W Table A.1), not on the weight penalty.
        target_weight: W's κ of squared error, positive.
        target_value: W's M of squared error, positive.
        gamma: γ >= 0 of focal loss, 2 by default.
        adjustment: τ >= 0 of logit adjustment, which trains on ℓ + τ log π; logits stay ℓ. See
            ``losses.LogitAdjustment``.
        class_counts: training samples of each class, positive, C of them; None for equally many.
        class_weight: positive factor a class, C of them; divides as in ``torch.nn.functional.cross_entropy``.
        ignore_index: class index of samples that do not count.
        inference_kappa: in eval mode scale by the running ``"mean"`` of κ*, or search ``"per_sample"``.
        fused: how the loss is computed: by the fused step (``functional.rival_terms``: blocks of classes, no
            normalised weight, no gradient of logits), which is faster for many classes, by plain autograd, or
            ``"auto"``: the faster of the two. ``path`` says which. What the fused step cannot do goes the plain way
            even where it is asked for.
        device: of the parameters.
        dtype: of the parameters; those of the temperature are float32 at least.

    Attributes:
        weight: ``[C, D]`` (``[C * centers, D]``), laid out and initialised as in ``nn.Linear``.
        link: how logits become probabilities: ``"softmax"``, ``"normalized_sigmoid"`` or ``"none"``.

    Raises:
        ParameterError: every fault at once.

    >>> head = Head(8, 3, classifier="cosine", temperature="least_squares")
    >>> head(torch.ones(2, 8)).shape, head(torch.ones(2, 8), torch.tensor([0, 2])).shape
    (torch.Size([2, 3]), torch.Size([]))
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        classifier: Literal["linear", "cosine", "unit_weight"] = "linear",
        loss: Literal["softmax", "sigmoid", "squared_error", "focal"] | Loss = "softmax",
        temperature: Temperature | str | None = None,
        margin: Margin | None = None,
        centers: int = 1,
        kappa: float | None = None,
        tau: float | None = None,
        normalize_logits: bool = False,
        keep_probability: float = 1.0,
        alpha: float = 0.0,
        beta: float = 0.0,
        weight_penalty: float = 0.0,
        bias: bool | None = None,
        loss_scale: float = 1.0,
        target_weight: float | None = None,
        target_value: float | None = None,
        gamma: float | None = None,
        adjustment: float = 0.0,
        class_counts: Tensor | Sequence[float] | None = None,
        class_weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = -100,
        inference_kappa: Literal["mean", "per_sample"] = "mean",
        fused: Fused = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        arguments: dict[str, Any] = {
            key: value for key, value in locals().items() if key not in ("self", "__class__", "device", "dtype")
        }
        super().__init__()
        faults = find_faults(type(self).__name__, arguments)
        if faults:
            raise ParameterError(faults)
        self._arguments = arguments
        self.in_features = int(in_features)
        self.num_classes = int(num_classes)
        self.classifier = classifier
        self.centers = int(centers)
        self.normalize_logits = normalize_logits
        self.keep_probability = keep_probability
        self.weight_penalty = weight_penalty
        self.loss_scale = loss_scale
        self.ignore_index = ignore_index
        self.inference_kappa = inference_kappa
        self.fused = fused
        self.loss_function = compose_loss(
            loss, alpha, beta, target_weight, target_value, gamma, adjustment, class_counts
        )
        sigmoid = self.link == "normalized_sigmoid"
        has_bias = (classifier == "linear" or sigmoid) if bias is None else bias

        self.weight = nn.Parameter(torch.empty(num_classes * self.centers, in_features, device=device, dtype=dtype))
        self.bias: nn.Parameter | None
        if has_bias:
            self.bias = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.loss_function.to(self.weight.device)
        self.class_weight: Tensor | None
        weights = class_weight_tensor(class_weight)
        self.register_buffer(
            "class_weight", None if weights is None else torch.empty_like(weights, device=self.weight.device)
        )
        self.reset_parameters()
        self.temperature: Temperature | None = None
        if isinstance(temperature, str) or kappa is not None or tau is not None:
            name = temperature if isinstance(temperature, str) else "fixed"
            temperature = create_temperature(name, kappa=kappa, tau=tau)
        if temperature is not None:
            self.set_temperature(temperature)
        self.margin: Margin | None = None
        if margin is not None:
            self.set_margin(margin)

    def set_margin(self, margin: Margin) -> None:
        """Replace the margin; an annealed one begins to follow the optimiser.

        Args:
            margin: of cosines, or one that is meant for Wx.

        Raises:
            ParameterError: it does not suit the classifier, or has not one number a class.
        """
        if not isinstance(margin, Margin):
            raise ParameterError(f"Expected a margin such as AdditiveAngularMargin(0.5). Got {margin!r}.")
        if self.classifier != "cosine" and (self.normalize_logits or not margin.bends_linear):
            raise ParameterError(
                f"{type(margin).__name__} lowers a cosine. This head needs classifier='cosine' for it."
            )
        margin.attach(self.num_classes)
        self.margin = margin.to(self.weight.device)
        follow_optimizer(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy or a pickle; its annealing follows the optimiser of its own weight."""
        # Pickles of versions without these.
        state.setdefault("centers", 1)
        if "margin" not in state.get("_modules", {}):
            state.setdefault("margin", None)
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if self.margin is not None:
            follow_optimizer(self)

    def reset_parameters(self) -> None:
        """Draw the weight as ``nn.Linear`` does; set the bias to zero, for sigmoid to -log C (W §2).

        Numbers a class that stand in the loss or the margin are taken again. Temperatures, and a schedule of λ, begin
        again by ``reset_parameters`` of their own.
        """
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            sigmoid = self.link == "normalized_sigmoid"
            nn.init.constant_(self.bias, -math.log(self.num_classes) if sigmoid else 0.0)
        given = class_weight_tensor(self._arguments["class_weight"])
        if self.class_weight is not None and given is not None:
            self.class_weight.copy_(given)
        for module in self.modules():
            if isinstance(module, (LogitAdjustment, AdditiveCosineMargin, AdditiveAngularMargin)):
                module.reset_parameters()

    @property
    def link(self) -> Link:
        """How logits become probabilities: that of the loss."""
        return self.loss_function.link

    @property
    def kappa(self) -> Tensor | None:
        """The κ that scales at inference, a detached scalar; None for a head without a temperature."""
        return None if self.temperature is None else self.temperature.kappa.detach()

    def set_temperature(self, temperature: Temperature) -> None:
        """Replace the temperature.

        Args:
            temperature: of cosines, or a fixed or trainable one of normalized logits.

        Raises:
            ParameterError: the head has no normalized logits, or the temperature does not suit them.
        """
        if not isinstance(temperature, Temperature):
            raise ParameterError(
                f"Expected a temperature such as Fixed(kappa=25) or LeastSquares(). Got {temperature!r}."
            )
        on_cosines = temperature.adaptive or temperature.uses_target
        if self.classifier != "cosine" and (not self.normalize_logits or on_cosines):
            raise ParameterError(
                f"{type(temperature).__name__} does not suit this head: a temperature needs classifier='cosine', "
                "and a fixed or trainable one may also scale normalized logits."
            )
        if self.centers > 1 and temperature.adaptive:
            raise ParameterError(
                f"{type(temperature).__name__} rebuilds a feature from one weight a class; this head has "
                f"{self.centers} centers a class. Use a fixed or trainable temperature, or AdaCos."
            )
        temperature.attach(self.num_classes)
        dtype = at_least_float32(self.weight)
        self.temperature = temperature.to(self.weight.device, dtype).train(self.training)

    def for_classes(self, num_classes: int) -> Head:
        """A fresh head of the same kind and temperature for another number of classes.

        The new head is of the same class; a subclass that keeps a state of its own builds its own.

        Args:
            num_classes: the new C.

        Raises:
            ParameterError: ``num_classes`` is out of range, or this head has a weight for each class.
        """
        arguments = {**self._arguments, "num_classes": num_classes, "kappa": None, "tau": None}
        arguments["temperature"] = None if self.temperature is None else self.temperature.fresh()
        arguments["margin"] = None if self.margin is None else self.margin.fresh()
        head = type(self).__new__(type(self))
        Head.__init__(head, **arguments, device=self.weight.device, dtype=self.weight.dtype)
        return head.train(self.training)

    def forward(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        reduction: Reduction = "mean",
        return_logits: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits without a target, the loss with one.

        Args:
            features: shape ``[..., D]``, any floating dtype.
            target: class indices ``[...]``, or probabilities ``[..., C]`` whose rows add up to one. Under a margin
                these cost the mean of what their classes would, for softmax without smoothing; else they are refused.
            kappa: use this κ instead of the temperature's: a number, or one value a sample, ``[...]``.
            reduction: of the loss: ``"mean"``, ``"sum"`` or ``"none"`` (one loss a sample, penalties included).
            return_logits: give ``(loss, logits)``.

        Returns:
            Logits ``[..., C]`` in float32 at least; or the loss; or both.

        Raises:
            InputError: shapes, dtypes or values that do not fit.
        """
        self._check_features(features)
        with autocast_off(features.device):
            if target is not None and self.path(features, target, kappa=kappa, return_logits=return_logits).fused:
                return fused_loss(self, features, target, kappa, reduction)
            scores = self._scores(features, target, kappa)
            if target is None:
                return scores.logits
            loss = self._loss(scores, target, reduction)
            logits = scores.logits
        return (loss, logits) if return_logits else loss

    def loss(self, features: Tensor, target: Tensor, **options: Any) -> Tensor:
        """The loss; the same as ``head(features, target)``, with the same options."""
        return cast(Tensor, self(features, target, **options))

    def extra_repr(self) -> str:
        """Show the shape, and every part that is not at rest."""
        parts = [f"{self.in_features}, {self.num_classes}, classifier={self.classifier!r}"]
        parts += [f"centers={self.centers}"] if self.centers > 1 else []
        parts += ["normalize_logits=True"] if self.normalize_logits else []
        parts += [f"bias={self.bias is not None}"]
        for name, rest in (("keep_probability", 1.0), ("weight_penalty", 0.0), ("loss_scale", 1.0)):
            value = getattr(self, name)
            parts += [f"{name}={value:g}"] if value != rest else []
        parts += [] if self.fused == "auto" else [f"fused={self.fused}"]
        return ", ".join(parts)

    def _loss(self, scores: Scores, target: Tensor, reduction: Reduction) -> Tensor:
        logits = scores.logits
        target_logits = None
        if self.margin is not None:
            target = check_target(target, logits, self.ignore_index)
            target_logits = logits_of_target(self, self.margin, scores, target)
        penalty = None
        if self.weight_penalty:
            # The loss is scaled as a whole below; the penalty on the weight is not meant to be.
            penalty = weight_penalty(self.weight.to(logits.dtype), self.weight_penalty / self.loss_scale)
        loss: Tensor = self.loss_function(
            logits,
            target,
            reduction=reduction,
            class_weight=self.class_weight,
            ignore_index=self.ignore_index,
            penalty=penalty,
            **({} if target_logits is None else {"target_logits": target_logits}),
        )
        return loss if self.loss_scale == 1 else self.loss_scale * loss
