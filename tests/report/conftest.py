"""Made-up records in the form of ``logitlab.records``."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

MEASURES = {
    "accuracy": 0.9,
    "nll": 0.3,
    "ece": 0.02,
    "class_separation": 0.5,
    "miss_ap": 0.95,
    "miss_base_rate": 0.9,
    "class_angle": 40.0,
    "kappa": None,
    "kappa_star": 4.5,
}


def make_config(head: str, seed: int, parameters: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    return {
        "data": {
            "name": "digits",
            "image_size": None,
            "train_limit": None,
            "validation_fraction": 0.1,
            "split_seed": 0,
        },
        "data_fingerprint": "ab" * 32,
        "backbone": {"name": "small_cnn", "parameters": {}, "module": None, "source": None},
        "head": {"name": head, "parameters": parameters or {}, "module": None, "source": None},
        "training": {"epochs": 30, "learning_rate": 0.05, **training},
        "seed": seed,
    }


def make_record(
    head: str, seed: int, parameters: dict[str, Any] | None = None, *, seconds: float = 10.0, **measures: Any
) -> dict[str, Any]:
    config = make_config(head, seed, parameters)
    return {
        "identity": f"{head}{parameters}{seed}",
        "config": config,
        "result": {"test": {**MEASURES, **measures}, "history": []},
        "provenance": {"seconds": seconds},
    }


def make_failure(head: str, seed: int, message: str = "The loss is not finite.", **error: Any) -> dict[str, Any]:
    return {
        "identity": f"{head}None{seed}",
        "config": make_config(head, seed),
        "error": {"kind": "TrialError", "message": message, **error},
    }


def make_head(head: str, parameters: dict[str, Any] | None = None, **measures: Sequence[Any]) -> list[dict[str, Any]]:
    """One record a seed; every measure is given as one value a seed."""
    seeds = range(len(next(iter(measures.values()))))
    return [
        make_record(head, seed, parameters, **{key: values[seed] for key, values in measures.items()}) for seed in seeds
    ]


@pytest.fixture
def make() -> SimpleNamespace:
    """Makers of records: ``config``, ``record``, ``failure``, ``head``."""
    return SimpleNamespace(config=make_config, record=make_record, failure=make_failure, head=make_head)


@pytest.fixture
def root(tmp_path):
    """The folder of a study."""
    return tmp_path / "runs"
