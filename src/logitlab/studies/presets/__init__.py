"""Studies of the papers, ready to run: one YAML file each, with its scales, its claims and where each number stands."""

from __future__ import annotations

from pathlib import Path

from logitlab.config.errors import ConfigurationError
from logitlab.config.names import unknown_name

_FOLDER = Path(__file__).parent


def list_presets() -> list[str]:
    """Return the names of the presets, sorted.

    >>> "w-table-1" in list_presets()
    True
    """
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def preset_path(name: str) -> Path:
    """Return the file of a preset, as :func:`logitlab.config.study.reading.read_study` takes it.

    Args:
        name: one of ``list_presets()``.

    Raises:
        ConfigurationError: an unknown name, with the nearest right one.

    >>> preset_path("w-table-1").name
    'w-table-1.yaml'
    """
    names = list_presets()
    if name not in names:
        raise ConfigurationError(unknown_name("preset", name, names))
    return _FOLDER / f"{name}.yaml"
