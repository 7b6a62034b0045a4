"""The scale of AdaCos, fixed by the number of classes or following each batch."""

from __future__ import annotations

import torch
from torch import Tensor

from logitlab.config.errors import ParameterError
from logitlab.config.parameters import parameter_fault
from logitlab.functional import adacos_kappa, adacos_step, adacos_step_of_terms

from .base import Temperature
from .running_mean import RunningMean


class AdaCos(Temperature):
    r"""AdaCos: κ = √2 log(C - 1), and with ``dynamic=True`` what the cosines of the last training batch say.

    .. math:: \kappa_t = \frac{\log B_t}{\cos(\min(\pi/4, \theta_{med}))}, \qquad
        B_t = \frac1N \sum_i \sum_{c \ne y_i} e^{\kappa_{t-1} z_{ic}}, \qquad \kappa_0 = \sqrt2 \log(C - 1)

    The formula gives zero for two classes, and no number for one: both take the value of three classes, 0.98, and stay
    there, for the dynamic rule would shrink κ to zero. The dynamic κ needs class indices; it moves once a training
    batch, right before the batch is scaled by it, stays in [1e-3, 1e6], rests under soft targets and at inference, and
    is saved with the model.

    Args:
        dynamic: whether κ follows the batches.

    Raises:
        ParameterError: ``dynamic`` is not a bool.

    References:
        Zhang et al., AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face Representations,
        CVPR 2019.

    >>> temperature = AdaCos()
    >>> temperature.attach(10)
    >>> temperature.kappa
    tensor(3.1073)
    """

    def __init__(self, dynamic: bool = False) -> None:
        super().__init__()
        if not isinstance(dynamic, bool):
            raise ParameterError(parameter_fault("AdaCos", "dynamic", "true or false", dynamic))
        self.uses_target = dynamic
        # The fixed scale is configuration and stands in no state dict; it keeps its digits in float64.
        self.scale = RunningMean(momentum=1.0, first=adacos_kappa) if dynamic else None
        self.num_classes: int | None = None

    @property
    def dynamic(self) -> bool:
        """Whether κ follows the batches."""
        return self.scale is not None

    def attach(self, num_classes: int) -> None:
        """Start at the scale of this number of classes.

        Raises:
            ParameterError: it belongs to a head of another number of classes.
        """
        if self.num_classes not in (None, num_classes):
            raise ParameterError(
                f"This AdaCos belongs to a head of {self.num_classes} classes, its scale does not suit one of "
                f"{num_classes}. Give each head a temperature of its own; temperature.fresh() makes one."
            )
        self.num_classes = num_classes
        if self.scale is not None:
            self.scale.start(num_classes)

    def fresh(self) -> AdaCos:
        """Another one of the same kind."""
        return AdaCos(self.dynamic)

    @property
    def kappa(self) -> Tensor:
        """κ as it stands. A copy: later steps do not change it."""
        return torch.tensor(self._constant()) if self.scale is None else self.scale.value.clone()

    def kappa_star(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor) -> Tensor:
        """κ as it stands, for each sample; shape ``[...]``."""
        return self._scalar(cosine).expand(cosine.shape[:-1])

    def observe(self, cosine: Tensor, target: Tensor, counts: Tensor) -> None:
        """Move to the scale of this batch, if this pass is one that trains; for three classes and more."""
        if self.scale is None or self.num_classes is None or self.num_classes < 3:
            return
        # A zero feature has cosine zero to every class, and no angle.
        counts = counts & cosine.isfinite().all(dim=-1) & (cosine != 0).any(dim=-1)
        cosine = cosine.detach()
        scale = adacos_step(cosine, target, self.scale.value.to(cosine.dtype), counts)
        self.scale.observe(scale.expand(counts.shape), counts)

    def observe_terms(self, rivals: Tensor, own: Tensor, counts: Tensor) -> None:
        """``observe`` where the classes are split: what ``functional.adacos_step_of_terms`` takes, of all samples."""
        if self.scale is None or self.num_classes is None or self.num_classes < 3:
            return
        counts = counts & rivals.isfinite() & own.isfinite()
        self.scale.observe(adacos_step_of_terms(rivals, own, counts).expand(counts.shape), counts)

    def forward(self, cosine: Tensor, unit_features: Tensor, unit_weight: Tensor, *, per_sample: bool) -> Tensor:
        """κ as it stands, a scalar in the dtype and on the device of the cosines."""
        return self._scalar(cosine)

    def extra_repr(self) -> str:
        """Show whether it is dynamic."""
        return f"dynamic={self.dynamic}"

    def _scalar(self, cosine: Tensor) -> Tensor:
        if self.scale is None:
            return cosine.new_full((), self._constant())
        return self.scale.value.to(cosine.dtype, copy=True)

    def _constant(self) -> float:
        return 1.0 if self.num_classes is None else adacos_kappa(self.num_classes)
