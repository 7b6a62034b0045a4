"""The stage ``analyse``: numbers of an analysis, for one trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from logitlab.analysis import UndefinedError
from logitlab.evaluation.analyses import Request, find_measures, plain_entry
from logitlab.records.stages import CONVENTION, result_fault
from logitlab.records.study import StageSource

from .context import StageContext
from .options import AnalyseOptions
from .validated import validated


def analyse(context: StageContext, source: StageSource) -> dict[str, Any]:
    """Measure the model as ``logitlab analyze`` does; lists and pictures are left out.

    Returns:
        name of a measure → ``value``, ``convention`` and whatever other plain numbers it has; where a measure is a
        number a layer, ``layers`` holds them by name. A measure that is undefined for the model has the value None.
    """
    options = validated(AnalyseOptions, source)
    layered = {"train"} if "separation_by_layer" in options.measures else set()
    if "sparsity_by_layer" in options.measures:
        layered.add(options.part)
    subject = context.subject(options.part, options.limit, layered=frozenset(layered))
    functions = find_measures()
    request = Request(seed=context.seed % 2**32)
    found = {}
    for name in options.measures:
        try:
            entry = plain_entry(functions[name](subject, request))
        except UndefinedError as fault:
            found[name] = {"value": None, CONVENTION: f"undefined: {fault}"}
        else:
            found[name] = numbers_of(entry)
    return found


def numbers_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the numbers of an entry, those inside mappings, and its convention.

    >>> numbers_of({"value": 0.5, "convention": "top-1", "name": "accuracy", "split": "test", "warnings": []})
    {'value': 0.5, 'convention': 'top-1'}
    >>> numbers_of({"layers": ["stem", "block"], "value": [0.25, 0.5], "null": 0.1})
    {'layers': {'stem': 0.25, 'block': 0.5}, 'null': 0.1}
    """
    found: dict[str, Any] = {}
    layers, values = entry.get("layers"), entry.get("value")
    if isinstance(layers, list) and isinstance(values, list) and len(layers) == len(values):
        found["layers"] = dict(zip(layers, values))
    for key, value in entry.items():
        inner = numbers_of(value) if isinstance(value, Mapping) else value
        is_number = isinstance(inner, (int, float)) and result_fault(inner, key) is None
        kept = is_number or (isinstance(inner, dict) and inner) or (key == CONVENTION and isinstance(inner, str))
        if kept or (key == "value" and inner is None):
            found[key] = inner
    return found
