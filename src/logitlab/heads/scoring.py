"""What a head computes from features, before any loss: cosines, κ and logits; and the answers that rest on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from logitlab.config.errors import InputError
from logitlab.functional import (
    at_least_float32,
    autocast_off,
    check_target,
    cosine_with_units,
    is_soft,
    normalize,
    normalize_logits,
    normalized_sigmoid,
)
from logitlab.losses import Link
from logitlab.temperature import Temperature

from .checks import check_features, read_kappa, refuse_kappa
from .fusing import Fused, Path, choose_path
from .scores import Scores

if TYPE_CHECKING:
    from .head import Head


class Scoring(nn.Module):
    """Base of ``Head``, which gives it its parts and says what they mean; it is of no use alone."""

    in_features: int
    num_classes: int
    classifier: Literal["linear", "cosine", "unit_weight"]
    centers: int
    normalize_logits: bool
    keep_probability: float
    ignore_index: int
    inference_kappa: Literal["mean", "per_sample"]
    weight: nn.Parameter
    bias: nn.Parameter | None
    temperature: Temperature | None

    # A value, for pickles of versions without it and heads that build themselves.
    fused: Fused = "auto"

    @property
    def link(self) -> Link:
        """How logits become probabilities."""
        raise NotImplementedError

    def predict_proba(self, features: Tensor) -> Tensor:
        """Probabilities of the classes.

        Args:
            features: shape ``[..., D]``.

        Returns:
            Rows that add up to one, ``[..., C]``.

        Raises:
            InputError: the loss defines no probabilities (squared error).
        """
        return self.probabilities(self(features))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits of this head into probabilities by its link.

        Args:
            logits: shape ``[..., C]``.

        Raises:
            InputError: the loss defines no probabilities (squared error).
        """
        if self.link == "none":
            raise InputError(
                "The loss of this head (squared error) defines no probabilities. Use the logits, or predict."
            )
        return normalized_sigmoid(logits) if self.link == "normalized_sigmoid" else F.softmax(logits, dim=-1)

    def predict(self, features: Tensor) -> Tensor:
        """The class with the largest logit, int64, ``[...]``; of equal ones the first."""
        return cast(Tensor, self(features)).argmax(dim=-1)

    def cosine(self, features: Tensor) -> Tensor:
        """Cosine of each feature to each row of the weight, without temperature and bias: ``[..., C]``."""
        return self._cosine(features)[0]

    def max_logit(self, features: Tensor) -> Tensor:
        """The confidence score of T §3.2.1: the largest cosine of a cosine head, else the largest logit; ``[...]``."""
        scores = self.cosine(features) if self.classifier == "cosine" else cast(Tensor, self(features))
        return scores.amax(dim=-1)

    @torch.no_grad()
    def kappa_star(self, features: Tensor) -> Tensor:
        """What the temperature's rule says of each sample: ``[...]``, without the multiplier, detached.

        Raises:
            InputError: the head has no temperature; ``functional.least_squares_kappa`` serves any head.
        """
        if self.temperature is None:
            raise InputError(
                "This head has no temperature. functional.least_squares_kappa(features, head.weight) measures κ* "
                "on any head."
            )
        return self.temperature.kappa_star(*self._cosine(features))

    def path(
        self,
        features: Tensor,
        target: Tensor | None = None,
        *,
        kappa: float | Tensor | None = None,
        return_logits: bool = False,
    ) -> Path:
        """Which way ``head(features, target)`` goes, ``"fused"`` or ``"plain"``, and why.

        The arguments are those of ``forward``.

        >>> import logitlab.heads
        >>> logitlab.heads.Head(8, 3, fused=False).path(torch.ones(2, 8), torch.tensor([0, 2]))
        Path(name='plain', reason='fused=False')
        """
        return choose_path(cast("Head", self), features, target, kappa, return_logits)

    def _check_features(self, features: Tensor) -> None:
        check_features(features, self.in_features)

    def _cosine(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cosines, unit features and unit weight, which is what temperatures ask for."""
        self._check_features(features)
        with autocast_off(features.device):
            cosine, unit_features, unit_weight = cosine_with_units(features, self.weight)
            if self.centers > 1:
                cosine = cosine.reshape(*cosine.shape[:-1], self.num_classes, self.centers).amax(dim=-1)
            return cosine, unit_features, unit_weight

    def _drop(self, features: Tensor) -> Tensor:
        """Features in float32 at least, after dropout in training."""
        features = features.to(at_least_float32(features, self.weight))
        if self.training and self.keep_probability < 1:
            return F.dropout(features, p=1 - self.keep_probability)
        return features

    def _scores(self, features: Tensor, target: Tensor | None, kappa: float | Tensor | None) -> Scores:
        features = self._drop(features)
        dtype = features.dtype
        bias = None if self.bias is None else self.bias.to(dtype)
        if self.classifier == "cosine":
            cosine, unit_features, unit_weight = self._cosine(features)
            if target is not None and kappa is None and self.temperature is not None and self.temperature.uses_target:
                self._show(cosine, target)
            kappa = self._kappa(kappa, cosine, unit_features, unit_weight)
            logits = kappa * cosine
            return Scores(logits if bias is None else logits + bias, features, cosine, kappa)
        if self.normalize_logits:
            unit = normalize_logits(F.linear(features, self.weight.to(dtype), bias))
            return Scores(self._kappa(kappa, unit, features, self.weight) * unit, features)
        refuse_kappa(kappa)
        weight = self.weight.to(dtype)
        return Scores(F.linear(features, weight if self.classifier == "linear" else normalize(weight), bias), features)

    def _show(self, cosine: Tensor, target: Tensor) -> None:
        """Let a temperature that learns from the target see those that count."""
        assert self.temperature is not None
        if not self.training or is_soft(target) or not torch.is_grad_enabled():
            return
        target = check_target(target, cosine, self.ignore_index)
        counts = target != self.ignore_index
        safe = torch.where(counts, target, 0)
        rows = cosine.detach().reshape(-1, self.num_classes)  # of a single sample too, whose cosine is [C]
        self.temperature.observe(rows, safe.flatten(), counts.flatten())

    def _kappa(
        self, override: float | Tensor | None, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor
    ) -> Tensor:
        """The κ that scales, broadcastable to the logits."""
        if override is None:
            assert self.temperature is not None  # find_faults refuses normalized logits without one
            per_sample = self.training or self.inference_kappa == "per_sample"
            kappa: Tensor = self.temperature(cosine, unit_features, unit_weight, per_sample=per_sample)
        else:
            kappa = self.given_kappa(override, cosine.shape[:-1], cosine)
        return kappa.unsqueeze(-1) if kappa.ndim else kappa

    def given_kappa(self, kappa: float | Tensor, batch: torch.Size, like: Tensor) -> Tensor:
        """A κ that the caller gave; see ``checks.read_kappa``."""
        return read_kappa(kappa, batch, like)
