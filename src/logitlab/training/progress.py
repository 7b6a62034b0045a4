"""What a running trial tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """An epoch of a trial has ended.

    Attributes:
        identity: of the trial.
        epoch: from 1.
        epochs: how many the recipe asks for; early stopping may end before.
        loss: mean training loss of the epoch.
        accuracy: on the validation images.
    """

    identity: str
    epoch: int
    epochs: int
    loss: float
    accuracy: float
