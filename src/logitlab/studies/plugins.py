"""Modules of the user's own, whose import registers heads."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from ..config.errors import ConfigurationError


def import_plugins(plugins: Iterable[str]) -> None:
    """Import modules by name (``my_heads``) or by file (``path/my_heads.py``).

    Names are looked up in the current folder too, after everything that is installed.

    Raises:
        ConfigurationError: one sentence for each module that cannot be imported.
    """
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


def worker_plugin(module_name: str) -> str | None:
    """Return what a fresh process must import to get ``module_name``; None when no other process can."""
    module = sys.modules.get(module_name)
    file = source_file(module) if module is not None else None
    if module_name == "__main__" or file is None:
        return None
    # A single file is given as such, since its folder may be on no other process's path; members of a
    # package need their package.
    return str(file) if file.stem == module_name else module_name
