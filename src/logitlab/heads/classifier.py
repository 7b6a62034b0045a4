"""A backbone and a head as one module, so that DDP, FSDP, hooks and compile see one forward pass."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from .head import Head
from .sharded import ShardedHead


class Classifier(nn.Module):
    """Backbone and head.

    ``model(images)`` gives logits, ``model(images, target)`` the loss; options such as ``reduction``,
    ``return_logits`` and ``kappa`` go to the head.

    Args:
        backbone: any module from images to features ``[..., D]``, for instance a timm model with
            ``num_classes=0``.
        head: a ``Head`` for features of that length, or a ``ShardedHead``.

    >>> import torch
    >>> model = Classifier(nn.Flatten(), Head(12, 3))
    >>> model(torch.zeros(2, 3, 2, 2)).shape
    torch.Size([2, 3])
    """

    def __init__(self, backbone: nn.Module, head: Head | ShardedHead) -> None:
        super().__init__()
        self.backbone = backbone
        # A sharded head answers to the same names, as far as it can.
        self.head = cast(Head, head)

    def forward(self, images: Tensor, target: Tensor | None = None, **options: Any) -> Any:
        """Logits without a target, the loss with one; see ``Head.forward``."""
        return self.head(self.backbone(images), target, **options)

    def features(self, images: Tensor) -> Tensor:
        """Penultimate activations ``[..., D]``."""
        return cast(Tensor, self.backbone(images))

    def predict_proba(self, images: Tensor) -> Tensor:
        """Probabilities of the classes; see ``Head.predict_proba``."""
        # By way of the one forward pass, which is what FSDP gathers the weights for.
        return self.head.probabilities(self(images))

    @property
    def num_features(self) -> int:
        """D, length of a feature vector."""
        return self.head.in_features

    @property
    def num_classes(self) -> int:
        """C."""
        return self.head.num_classes

    def get_classifier(self) -> Head:
        """The head, by timm's name."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one of the same kind for another number of classes, by timm's name.

        Args:
            num_classes: C of the new task, at least 1. For features without a head call ``features``.

        Raises:
            ParameterError: ``num_classes`` is out of range, or the old head weights its classes one by one.
        """
        self.head = self.head.for_classes(num_classes)
