"""Scalars for TensorBoard: a folder a trial, a line an epoch."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from logitlab.config.errors import ConfigurationError
from logitlab.config.trial import TrialConfig

from .fitting import EpochRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

# What TensorBoard shows under which title; "kappa" is None for heads without a temperature.
_TITLES = {
    "loss": "loss/train",
    "validation_loss": "loss/validation",
    "accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "kappa": "temperature/kappa",
    "kappa_star": "temperature/kappa_star",
    "learning_rate": "learning_rate",
}


def check_tensorboard() -> None:
    """See that TensorBoard is installed, before anything is trained.

    Raises:
        ConfigurationError: it is not.
    """
    try:
        _writer_class()
    except ImportError as fault:
        raise ConfigurationError(
            f"'tensorboard' needs the package tensorboard ({fault}). Install it with: pip install "
            "'logitlab[tensorboard]', or leave the option out."
        ) from None


class EpochLog:
    """Writes the epochs of one trial to ``root/tensorboard/<head>-seed<seed>-<identity>``; a context.

    A trial that is resumed goes on in the same folder, and epochs that are trained again take the place of those
    that were lost.

    Args:
        root: the folder of the study.
        trial: what is run.
    """

    def __init__(self, root: Path, trial: TrialConfig) -> None:
        head = re.sub(r"[^\w.-]", "_", trial.head.name)
        self.folder = root / "tensorboard" / f"{head}-seed{trial.seed}-{trial.identity}"
        self._writer: SummaryWriter | None = None

    def __call__(self, epoch: EpochRecord) -> None:
        """Log an epoch that has ended."""
        if self._writer is None:
            self._writer = _writer_class()(str(self.folder), purge_step=epoch.epoch)
        values: dict[str, Any] = asdict(epoch)
        for name, title in _TITLES.items():
            if values[name] is not None:
                self._writer.add_scalar(title, values[name], epoch.epoch)
        # Whoever watches sees it now, and a process that is killed has left it.
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _writer_class() -> type[SummaryWriter]:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter
