"""A study as a user names it: a preset, a file, plain values, or a definition. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config.errors import ConfigurationError
from ..config.names import nearest_name
from ..config.study import StudyDefinition
from ..config.study.reading import read_study
from .presets import list_presets, preset_path

Source = str | Path | Mapping[str, Any] | StudyDefinition


def define(study: Source, scale: str | None = None) -> StudyDefinition:
    """Return the definition that a user's words stand for.

    Args:
        study: name of a preset, a YAML file, what such a file holds as plain values, or a definition.
        scale: which of its scales; None for its default.

    Raises:
        ConfigurationError: every fault, a sentence each; for an unknown name the nearest right one.
    """
    if isinstance(study, StudyDefinition):
        if scale is not None and scale != study.scale:
            raise ConfigurationError(
                f"The study '{study.name}' was read at the scale '{study.scale}'. Got '{scale}'; read its file anew."
            )
        return study
    if isinstance(study, Mapping):
        return read_study(study, scale=scale, find=study_file)
    return read_study(study_file(study), scale=scale, find=study_file)


def study_file(study: str | Path) -> Path:
    """Return the file of a preset, or the file itself.

    Raises:
        ConfigurationError: there is neither such a preset nor such a file.
    """
    presets = list_presets()
    if isinstance(study, str) and study in presets:
        return preset_path(study)
    path = Path(study).expanduser()
    with suppress(OSError):
        # A name may be too long for a file.
        if path.is_file():
            return path
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        raise ConfigurationError(f"There is no file '{study}'. Give a YAML file, or a preset: {', '.join(presets)}.")
    nearest = nearest_name(str(study), presets)
    question = f"; did you mean '{nearest}'?" if nearest else "."
    raise ConfigurationError(f"Unknown study '{study}'{question} Give a YAML file, or a preset: {', '.join(presets)}.")
