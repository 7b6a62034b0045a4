"""What is said of a head is what its code does."""

import json

import pytest

from logitlab.config.errors import ParameterError
from logitlab.heads import NAMED_HEADS, Head, create_head, known_parameters, register_head
from logitlab.heads.description import describe_head
from logitlab.heads.papers import full_source, papers_of


@pytest.mark.parametrize("name", sorted(NAMED_HEADS))
def test_every_parameter_that_is_taken_is_described(name):
    described = describe_head(name)
    shown = {parameter.name for parameter in described.parameters}
    missing = set(known_parameters(name)) - {"device", "dtype"} - shown
    if name == "group_softmax":
        # It refuses cosines, temperatures and other losses in words.
        assert {"temperature", "loss", "margin", "kappa", "multiplier"} <= missing
    else:
        assert missing <= {"margin"}
        assert ("margin" in shown) is (NAMED_HEADS[name].margin is not None and name != "ldam")
    assert shown <= set(known_parameters(name))
    assert all(parameter.expected and parameter.meaning for parameter in described.parameters)
    assert described.papers
    json.dumps(described.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", sorted(NAMED_HEADS))
def test_the_defaults_written_out_give_the_same_head(name):
    described = describe_head(name)
    values = {p.name: p.default for p in described.parameters if p.default is not None}
    if described.default_preset is None and described.presets:
        values |= {"preset": "cifar10"}
        values = {key: value for key, value in values.items() if key not in described.presets["cifar10"]}
        reference = create_head(name, 8, 10, preset="cifar10")
    else:
        reference = create_head(name, 8, 10)
    if "multiplier" not in described.fixed and described.fixed.get("temperature") != "least_squares":
        values.pop("multiplier", None)
    built = create_head(name, 8, 10, **values)
    assert repr(built) == repr(reference)
    assert built.link == reference.link


def test_ranges_are_those_that_are_checked():
    (alpha,) = (p for p in describe_head("label_smoothing").parameters if p.name == "alpha")
    assert alpha.own
    assert alpha.to_json()["range"] == {
        "low": 0,
        "high": 1,
        "low_included": True,
        "high_included": False,
        "integer": False,
        "optional": False,
    }
    create_head("label_smoothing", 8, 3, alpha=alpha.range.low)
    with pytest.raises(ParameterError):
        create_head("label_smoothing", 8, 3, alpha=alpha.range.high)


def test_a_registered_head_shows_its_factory(monkeypatch):
    monkeypatch.setattr("logitlab.heads.registry._REGISTERED", {})

    @register_head("mine")
    def mine(in_features, num_classes, gamma=2.0, *, table=(1, 2), **parameters):
        """Focus on the hard.

        More words.
        """
        return Head(in_features, num_classes, **parameters)

    described = describe_head("mine")
    assert [(p.name, p.default) for p in described.parameters] == [("gamma", 2.0), ("table", (1, 2))]
    assert described.takes_any
    assert described.source.endswith("Focus on the hard.")
    json.dumps(described.to_json(), allow_nan=False)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ParameterError, match="did you mean 'softmax'"):
        describe_head("sofmax")


def test_every_source_names_its_papers():
    assert list(papers_of("W (7), T (1), (2)")) == ["W", "T"]
    assert full_source("elsewhere") == "elsewhere"
    for named in NAMED_HEADS.values():
        assert papers_of(named.source)
