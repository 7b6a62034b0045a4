"""Modules of the user's own, whose import registers heads, temperatures, measurements, stages and data sets."""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import warnings
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from ..config.errors import ConfigurationError

#: Installed distributions that name modules in this group of entry points have them imported everywhere.
ENTRY_POINTS: Final = "logitlab.plugins"

# Entry points that this process has tried, by name and value: each is told once.
_TRIED: set[tuple[str, str]] = set()


def import_entry_points() -> tuple[str, ...]:
    """Import the modules that installed distributions name in the group ``logitlab.plugins``.

    In the ``pyproject.toml`` of a distribution: ``[project.entry-points."logitlab.plugins"]`` and
    ``mine = "my_package.my_module"``. Every process of a study imports them before its first trial, each once.

    Returns:
        a sentence for each that cannot be imported, with the name of its distribution: what somebody else installed
        must not stop a study that does not need it.
    """
    notices = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, point.value)):
        if (point.name, point.value) in _TRIED:
            continue
        _TRIED.add((point.name, point.value))
        try:
            point.load()
        except Exception as fault:  # somebody else's module may raise anything
            distribution = point.dist.name if point.dist is not None else "an unknown distribution"
            words = " ".join(str(fault).split()).rstrip(".")
            notices.append(
                f"The plugin '{point.name}' ({point.value}) of '{distribution}' cannot be imported: "
                f"{type(fault).__name__}{f': {words}' if words else ''}. What it registers is not known; update or "
                "uninstall it."
            )
    return tuple(notices)


def import_plugins(plugins: Iterable[str]) -> None:
    """Import modules by name (``my_heads``) or by file (``path/my_heads.py``), after those of entry points.

    Names are looked up in the current folder too, after everything that is installed. An entry point that cannot be
    imported is told in a warning, outside of worker processes.

    Raises:
        ConfigurationError: one sentence for each module that cannot be imported.
    """
    for notice in import_entry_points():
        if multiprocessing.parent_process() is None:
            warnings.warn(notice, stacklevel=2)
    faults: list[str] = []
    here = str(Path.cwd())
    if here not in sys.path:
        # At the end: a file of the user's called like an installed module must not hide it.
        sys.path.append(here)
    for plugin in plugins:
        try:
            _import(plugin)
        except ConfigurationError as fault:
            faults.extend(fault.faults)
        except Exception as fault:  # a user's module may raise anything
            faults.append(
                f"Cannot import the plugin '{plugin}': {type(fault).__name__}: {fault}. "
                "Give a module that Python finds from this folder, or a file that ends in .py."
            )
    if faults:
        raise ConfigurationError(faults)


def _import(plugin: str) -> None:
    if not plugin.endswith(".py"):
        importlib.import_module(plugin)
        return
    path = Path(plugin).resolve()
    if not path.is_file():
        raise ConfigurationError(f"Cannot import the plugin '{plugin}': there is no such file.")
    folder = str(path.parent)
    if folder not in sys.path:
        # So that the file may import what stands beside it.
        sys.path.append(folder)
    importlib.invalidate_caches()
    if source_file(importlib.import_module(path.stem)) != path:
        raise ConfigurationError(
            f"The plugin '{plugin}' has the name of another module, '{path.stem}'. Rename the file."
        )


def source_file(module: ModuleType) -> Path | None:
    """Return the file that a module was read from; None for a notebook or an interactive session."""
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


def plugins_of(module_names: str) -> tuple[str, ...] | None:
    """Return what a fresh process must import to get several modules; None when no other process can.

    Args:
        module_names: joined by commas, as ``ComponentConfig.module`` and ``StageSource.module`` have them.
    """
    found = [worker_plugin(name) for name in module_names.split(",")]
    known = tuple(name for name in found if name is not None)
    return known if len(known) == len(found) else None


def worker_plugin(module_name: str) -> str | None:
    """Return what a fresh process must import to get ``module_name``; None when no other process can."""
    module = sys.modules.get(module_name)
    file = source_file(module) if module is not None else None
    if module_name == "__main__" or file is None:
        return None
    # A single file is given as such, since its folder may be on no other process's path; members of a
    # package need their package.
    return str(file) if file.stem == module_name else module_name
