"""An edited head is another head: in a file as it was imported, in a notebook with all that it reaches."""

from __future__ import annotations

import functools
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from logitlab.config.source import code_digest, file_digest
from logitlab.heads import Head, head_source, register_head

CELL = """
SCALE = {scale}

def helper(x):
    return [y for y in x if y in {{1, 2, 3}}] + [SCALE]

class Loss:
    strength = {strength}
    def forward(self, x):
        return helper(x){operator}2

def factory(in_features, num_classes, gamma={default}):
    return Head(in_features, num_classes, loss=Loss())
"""


def notebook(**changes: Any) -> Any:
    """Run a cell that no file holds; return its factory."""
    space: dict[str, Any] = {"Head": Head, "__name__": "no_such_module"}
    values = {"scale": 1, "strength": 0.5, "operator": "*", "default": 1.0, **changes}
    exec(CELL.format(**values), space)
    return space["factory"]


def test_the_same_cell_gives_the_same_digest() -> None:
    assert code_digest(notebook()) == code_digest(notebook())
    assert file_digest(notebook()) is None


@pytest.mark.parametrize("change", [{"scale": 2}, {"strength": 0.6}, {"operator": "+"}, {"default": 2.0}])
def test_whatever_the_factory_reaches_counts(change: dict[str, Any]) -> None:
    assert code_digest(notebook(**change)) != code_digest(notebook())


def test_partial_settings_count() -> None:
    first, second = (functools.partial(notebook(), gamma=gamma) for gamma in (1.0, 2.0))
    assert code_digest(first) != code_digest(second)
    assert code_digest(first) == code_digest(functools.partial(notebook(), gamma=1.0))


def test_a_class_and_a_callable_object_have_a_digest() -> None:
    class Mine(Head):
        pass

    class Factory:
        def __call__(self) -> None: ...

    digests = {code_digest(Mine), code_digest(Factory())}
    assert len(digests) == 2


def test_a_file_counts_as_it_was_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    monkeypatch.syspath_prepend(tmp_path)
    text = (
        "from logitlab import Head, register_head\n@register_head('filed')\ndef filed(D, C):\n    return Head(D, C)\n"
    )
    path = tmp_path / "filed_head_module.py"
    path.write_text(text)
    importlib.import_module("filed_head_module")
    before = head_source("filed")
    path.write_text(text + "# edited\n")
    assert head_source("filed") == before
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    del sys.modules["filed_head_module"]
    importlib.invalidate_caches()
    importlib.import_module("filed_head_module")
    assert head_source("filed") != before
    del sys.modules["filed_head_module"]


def test_registering_a_notebooks_factory_again_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})
    register_head("cell")(notebook())
    before = head_source("cell")
    register_head("cell", overwrite=True)(notebook(strength=0.7))
    assert head_source("cell") != before
