"""Where a user's head and temperature come from: the modules that register them, and the digest of their code."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from typing import Any

from logitlab.config.source import code_digest
from logitlab.temperature import REGISTERED_TEMPERATURES, TEMPERATURES

from . import registry
from .presets import ALIASES


def head_module(name: str, parameters: Mapping[str, Any] | None = None) -> str | None:
    """The modules whose import registers what a head is made of, joined by commas; None for a built-in head.

    Args:
        name: of the head.
        parameters: of the head; its temperature may be a user's too.
    """
    modules = [registry._REGISTERED[name].__module__ if name in registry._REGISTERED else None]
    modules.append(REGISTERED_TEMPERATURES.module(registry.temperature_name(parameters)))
    return ",".join(dict.fromkeys(module for module in modules if module is not None)) or None


def head_source(name: str, parameters: Mapping[str, Any] | None = None) -> str | None:
    """SHA-256 of the code that makes a user's head, or a head with a user's temperature; None for a built-in one.

    Of its file as it was when the head was registered, or, in a notebook, of the factory and all it reaches there.
    An edited head is another head: studies put this into the identity of a trial.

    Args:
        name: of the head.
        parameters: of the head; its temperature may be a user's too.
    """
    head = (
        (registry._SOURCES[name] or code_digest(registry._REGISTERED[name])) if name in registry._REGISTERED else None
    )
    temperature = REGISTERED_TEMPERATURES.source(registry.temperature_name(parameters))
    if head is None or temperature is None or head == temperature:
        return head or temperature
    return hashlib.sha256(f"{head} {temperature}".encode()).hexdigest()


def import_head(name: str, parameters: Mapping[str, Any], module: str | None) -> None:
    """Import the modules of a user's head, and of its temperature, unless both are known already.

    Args:
        name: of the head.
        parameters: of the head.
        module: what :func:`head_module` said when the trial was planned; None imports nothing.
    """
    temperature = parameters.get("temperature")
    known = not isinstance(temperature, str) or temperature in TEMPERATURES
    if module is not None and not (known and ALIASES.get(name, name) in registry.list_heads()):
        for each in module.split(","):
            importlib.import_module(each)
