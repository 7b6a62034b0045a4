"""The result of an analysis: prints, converts, serialises."""

import dataclasses
import json
import math

import pytest

from logitlab.analysis import Measurement, UndefinedError
from logitlab.config.errors import LogitLabError


def test_prints_everything_that_matters() -> None:
    found = Measurement("r2", 0.34942, "cosine distance", 50000, "train", ("be careful",), {"null": 0.02})
    assert str(found) == ("r2 0.3494 (cosine distance; train, n = 50000); null 0.02\n  warning: be careful")
    assert str(Measurement("r2", 1.0, "cosine distance", 3)) == "r2 1 (cosine distance; n = 3)"


def test_is_a_number_and_cannot_change() -> None:
    found = Measurement("accuracy", 0.5, "top-1", 2)
    assert float(found) == 0.5
    assert f"{float(found):.1%}" == "50.0%"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = 1.0  # type: ignore[misc]


def test_json_holds_all_and_is_strict() -> None:
    found = Measurement("nll", math.inf, "nats", 2, None, ("zero",), {"a": math.nan, "b": 1.0})
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == {
        "name": "nll",
        "value": None,
        "convention": "nats",
        "n": 2,
        "split": None,
        "warnings": ["zero"],
        "details": {"a": None, "b": 1.0},
    }


def test_undefined_is_a_fault_that_a_user_can_mend() -> None:
    assert issubclass(UndefinedError, LogitLabError)
