"""The trials of studies as TensorBoard shows them: a run a trial, with its hyperparameters. No torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ..config.errors import ConfigurationError
from .study_trials import StudyTrial, is_number

#: Below it stand folders of runs that an export may replace; its presence says that they are ours.
MARK: Final = ".logitlab-export"

# As a study that logs while it runs calls them ("kappa" is None for heads without a temperature).
_TITLES: Final = {
    "loss": "loss/train",
    "validation_loss": "loss/validation",
    "accuracy": "accuracy/train",
    "validation_accuracy": "accuracy/validation",
    "kappa": "temperature/kappa",
    "kappa_star": "temperature/kappa_star",
    "learning_rate": "learning_rate",
}


def check_tensorboard_writer() -> None:
    """See that TensorBoard is installed.

    Raises:
        ConfigurationError: saying what to install.
    """
    try:
        import tensorboard.summary.writer.event_file_writer  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "The export to TensorBoard needs tensorboard. Install it with: pip install 'logitlab[tensorboard]', or "
            "take --to csv."
        ) from None


def export_tensorboard(trials: Sequence[StudyTrial], output: Path) -> int:
    """Write the event files of finished trials: ``output/STUDY/ROW-seedSEED-IDENTITY``.

    The history becomes scalars with the epoch as their step, every measure a scalar ``measures/…`` at the last epoch,
    and the axes of the study hyperparameters, which TensorBoard shows beside the measures. A folder that an earlier
    export wrote is replaced.

    Args:
        trials: of one study or several; failed ones have nothing to show.
        output: a folder; it is made where it is missing.

    Returns:
        how many trials were written.

    Raises:
        ConfigurationError: TensorBoard is not installed, or the folder of a study holds files of others.
        OSError: the file system refuses.
    """
    check_tensorboard_writer()
    studies: dict[str, list[StudyTrial]] = {}
    for trial in trials:
        if not trial.failed:
            studies.setdefault(trial.study, []).append(trial)
    for study in studies:
        folder = output / study
        if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
            raise ConfigurationError(
                f"'{folder}' holds files that no export wrote, so it is not replaced. Give another --output."
            )
    for study, members in studies.items():
        folder = output / study
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / MARK).write_text("Written by 'logitlab study export'; the next export replaces this folder.\n")
        for trial in members:
            _write(trial, folder / _folder_name(trial))
    return sum(map(len, studies.values()))


def _write(trial: StudyTrial, folder: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    provenance = trial.record.get("provenance", {})
    began = _seconds(provenance.get("started")) or 0.0
    ended = _seconds(provenance.get("finished")) or began
    writer = EventFileWriter(str(folder))
    try:
        settings = hparams_pb(_hyperparameters(trial), trial_id=trial.plan.identity, start_time_secs=began)
        writer.add_event(Event(wall_time=began, step=0, summary=settings))
        last = 0
        epochs = max(len(trial.history), 1)
        for epoch in trial.history:
            last = int(epoch["epoch"])
            when = began + (ended - began) * last / epochs
            values = [
                Summary.Value(tag=_TITLES.get(key, f"epoch/{key}"), simple_value=float(value))
                for key, value in epoch.items()
                if key != "epoch" and is_number(value)
            ]
            writer.add_event(Event(wall_time=when, step=last, summary=Summary(value=values)))
        values = [
            Summary.Value(tag=f"measures/{key}", simple_value=float(value))
            for key, value in trial.measures.items()
            if is_number(value)
        ]
        writer.add_event(Event(wall_time=ended, step=last, summary=Summary(value=values)))
    finally:
        writer.close()


def _hyperparameters(trial: StudyTrial) -> dict[str, Any]:
    axes: Mapping[str, Any] = {"row": trial.plan.row, "seed": trial.plan.seed, "role": trial.plan.role, **trial.axes}
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in axes.items()
        if value is not None
    }


def _folder_name(trial: StudyTrial) -> str:
    row = re.sub(r"[^\w.=-]+", "_", trial.plan.row).strip("_.") or "row"
    return f"{row[:80]}-seed{trial.plan.seed}-{trial.plan.identity}"


def _seconds(text: Any) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None
