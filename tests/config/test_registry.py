"""The rule by which users register by name."""

from __future__ import annotations

import pytest

from logitlab.config.errors import ParameterError
from logitlab.config.registry import Registry


def made():
    return Registry(
        "stage",
        "register_stage",
        built_in=lambda: ("ood",),
        check=lambda name, given: "it is called wrong" if given.__name__ == "wrong" else None,
    )


def test_a_name_stands_for_what_was_decorated():
    registry = made()

    @registry.register("mine")
    def mine():
        return 1

    assert mine() == 1
    assert "mine" in registry
    assert "other" not in registry
    assert registry["mine"] is mine
    assert registry.items() == {"mine": mine}
    assert registry.module("mine") == __name__
    assert registry.module("other") is registry.source("other") is None
    assert len(registry.source("mine")) == 64
    registry.forget("mine")
    registry.forget("mine")
    assert registry.names() == []


def test_overwriting_is_asked_for():
    registry = made()
    registry.register("mine")(lambda: 1)
    words = f"The stage 'mine' is registered already, by '{__name__}'. Choose another name, or overwrite=True."
    with pytest.raises(ParameterError) as fault:
        registry.register("mine")
    assert str(fault.value) == words
    registry.register("mine", overwrite=True)(lambda: 2)
    assert registry["mine"]() == 2


@pytest.mark.parametrize("name", ["Mine", "my-stage", "", "2nd", "my.stage", None, made])
def test_names_that_cannot_be_written_everywhere(name):
    with pytest.raises(
        ParameterError, match=r"The name of a stage must be lower-case .* as in @register_stage\('mine'\)"
    ):
        made().register(name)


def test_what_is_built_in_stays():
    with pytest.raises(ParameterError, match=r"^The stage 'ood' is built in\. Choose another name\.$"):
        made().register("ood")


def test_what_does_not_fit_is_refused():
    def wrong():
        pass

    registry = made()
    with pytest.raises(ParameterError, match=r"^The stage 'mine' cannot be registered: it is called wrong\.$"):
        registry.register("mine")(wrong)
    with pytest.raises(ParameterError, match=r"it must be called\. Got 3"):
        registry.register("mine")(3)
    assert registry.names() == []


def test_the_nearest_name_is_told():
    registry = made()
    registry.register("halves")(lambda: 1)
    words = "Unknown stage 'halfs'; did you mean 'halves'? Known: halves, linear_probe."
    assert registry.unknown("halfs", ["linear_probe"]) == words
