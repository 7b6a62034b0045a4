"""Temperatures of users: by name, with their parameters, and with their code in the identity of a trial."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from logitlab.config.errors import ConfigurationError, ParameterError
from logitlab.heads import (
    Head,
    canonical_parameters,
    create_head,
    head_module,
    head_source,
    import_head,
    known_parameters,
    register_head,
    registry,
)
from logitlab.heads.description import describe_head
from logitlab.temperature import Fixed, LeastSquares, create_temperature, register_temperature
from logitlab.temperature.by_name import REGISTERED_TEMPERATURES, forget_temperature


@pytest.fixture(autouse=True)
def _forgotten():
    heads = set(registry._REGISTERED)
    yield
    for name in REGISTERED_TEMPERATURES.names():
        if not name.startswith("doctest"):
            forget_temperature(name)
    for name in set(registry._REGISTERED) - heads:
        del registry._REGISTERED[name]


@pytest.fixture
def level():
    @register_temperature("level")
    class Level(Fixed):
        def __init__(self, height: float = 16.0, momentum: float = 0.5):
            super().__init__(kappa=height * (1 + momentum))

    return Level


def test_it_is_known_wherever_names_are(level):
    assert isinstance(create_temperature("level"), level)
    assert float(create_head("cosine", 8, 3, temperature="level").kappa) == 24
    assert float(Head(8, 3, classifier="cosine", temperature="level").kappa) == 24
    assert "height" in known_parameters("cosine")
    described = {each.name: each for each in describe_head("cosine").parameters}
    assert "level" in described["temperature"].choices
    assert "level" in described["temperature"].expected
    assert described["height"].expected == ""
    with pytest.raises(ParameterError, match="Unknown temperature 'levle'; did you mean 'level'"):
        create_head("cosine", 8, 3, temperature="levle")


def test_heads_take_its_parameters(level):
    head = create_head("cosine", 8, 3, temperature="level", height=10, momentum=0.1)
    assert float(head.kappa) == pytest.approx(11)
    assert head(torch.ones(2, 8)).shape == (2, 3)
    with pytest.raises(ParameterError, match="'height' belongs to temperature='level', which the head 'cosine'"):
        create_head("cosine", 8, 3, height=10)
    with pytest.raises(ParameterError, match="chooses κ itself and takes no 'kappa'"):
        create_head("cosine", 8, 3, temperature="level", kappa=3)


def test_what_comes_to_the_same_is_the_same_head(level):
    plain = canonical_parameters("cosine", {"temperature": "level"})
    assert plain == canonical_parameters("cosine", {"temperature": "level", "height": 16.0, "momentum": 0.5})
    # 0.1 is what a built-in temperature takes anyway, and not this one.
    assert canonical_parameters("cosine", {"temperature": "level", "momentum": 0.1}) == {**plain, "momentum": 0.1}
    assert canonical_parameters("cosine", {"temperature": "level", "height": 4}) == {**plain, "height": 4}
    before = canonical_parameters("cosine_ls", {"momentum": 0.1})
    assert before == canonical_parameters("cosine_ls", {})


def test_it_is_recorded_with_module_and_code(level):
    assert head_module("cosine") is head_source("cosine") is None
    assert head_module("cosine", {"temperature": "least_squares"}) is None
    assert head_module("cosine", {"temperature": "level"}) == __name__
    source = head_source("cosine", {"temperature": "level"})
    assert source == REGISTERED_TEMPERATURES.source("level")
    assert len(source) == 64
    # A head and a temperature of one file are one digest; of a head alone nothing changes.
    register_head("own")(lambda in_features, num_classes, temperature=None: None)
    assert head_source("own", {"temperature": "level"}) == head_source("own") == source
    assert head_module("own", {"temperature": "level"}) == __name__


MODULES = {
    "registered_head_one": """
from logitlab.heads import Head, register_head
@register_head("one_head")
def one(in_features, num_classes, **parameters):
    return Head(in_features, num_classes, classifier="cosine", **parameters)
""",
    "registered_temperature_one": """
from logitlab.temperature import LeastSquares, register_temperature
@register_temperature("one_temperature")
def one(times=2.0):
    return LeastSquares(multiplier=times)
""",
}


def test_a_head_and_a_temperature_of_two_modules_are_both_imported(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    parameters = {"temperature": "one_temperature"}
    joined = ",".join(MODULES)
    import_head("one_head", parameters, None)
    assert "one_head" not in registry._REGISTERED
    import_head("one_head", parameters, joined)
    assert head_module("one_head", parameters) == joined
    own = head_source("one_head"), REGISTERED_TEMPERATURES.source("one_temperature")
    both = head_source("one_head", parameters)
    assert both not in own
    head = create_head("one_head", 8, 3, **parameters)
    assert isinstance(head.temperature, LeastSquares)
    # What is known already is not imported, wherever it came from.
    import_head("one_head", parameters, "no_such_module")
    import_head("cosine", {}, "no_such_module")
    with pytest.raises(ModuleNotFoundError):
        import_head("cosine", {"temperature": "unheard_of"}, "no_such_module")
    # An edited temperature is another head.
    path = tmp_path / "registered_temperature_one.py"
    path.write_text(path.read_text().replace("times=2.0", "times=2.00"))
    del sys.modules["registered_temperature_one"]
    forget_temperature("one_temperature")
    importlib.invalidate_caches()
    importlib.import_module("registered_temperature_one")
    assert head_source("one_head", parameters) != both
    for name in MODULES:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (lambda kappa=3.0: None, "'kappa' is the number of temperature='fixed' and 'trainable'"),
        (lambda height: None, "each parameter needs a default, so that the name alone is enough. 'height' has none"),
        (lambda **rest: None, r"its parameters must have names. Got '\*\*rest'"),
        (lambda *rest: None, r"its parameters must have names. Got '\*rest'"),
    ],
)
def test_forms_that_are_refused(made, words):
    with pytest.raises(ParameterError, match=f"The temperature 'mine' cannot be registered: {words}"):
        register_temperature("mine")(made)
    assert "mine" not in REGISTERED_TEMPERATURES


def test_names_that_are_refused(level):
    with pytest.raises(ParameterError, match="The temperature 'adacos' is built in"):
        register_temperature("adacos")(lambda: None)
    with pytest.raises(ParameterError, match="The temperature 'level' is registered already"):
        register_temperature("level")(lambda: None)


def test_what_gives_no_temperature_is_told():
    register_temperature("nothing")(lambda: 3)
    with pytest.raises(ConfigurationError, match=r"registered as 'nothing' must give a Temperature\. Got 3"):
        create_temperature("nothing")


def test_a_parameter_of_heads_is_not_the_temperatures():
    register_temperature("mine")(lambda alpha=0.5: Fixed(kappa=alpha))
    with pytest.raises(ParameterError, match="has a parameter 'alpha', which heads have as well. Rename it"):
        create_head("cosine", 8, 3, temperature="mine")
