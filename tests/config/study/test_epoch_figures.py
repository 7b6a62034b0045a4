"""Figures through the epochs: what a history holds is known before the run."""

import dataclasses

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.config.study.reading import parse_study
from logitlab.config.study.report import HISTORY_MEASURES

STUDY = "data: digits\nheads: [softmax]\nfigures:\n"


def test_its_measures_are_the_keys_of_an_epoch_and_their_errors() -> None:
    from logitlab.training import EpochRecord

    keys = {field.name for field in dataclasses.fields(EpochRecord)} - {"epoch"}
    assert set(HISTORY_MEASURES) == keys | {"error", "validation_error"}


def test_every_key_may_be_drawn() -> None:
    written = STUDY + f"  - {{title: t, kind: epochs, measures: [{', '.join(HISTORY_MEASURES)}], logarithmic: true}}\n"
    (figure,) = parse_study(written, "my.yaml").figures
    assert (figure.kind, figure.measures, figure.logarithmic) == ("epochs", HISTORY_MEASURES, True)


def test_unknown_keys_are_told_with_their_lines_and_the_nearest_right_names() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_study(
            STUDY
            + "  - title: t\n    kind: epochs\n    measures:\n      - validation.accuracy\n      - kapa\n      - loss\n"
            + "  - {title: t, kind: epoch, measures: [loss]}\n",
            "my.yaml",
        )
    faults = list(caught.value.faults)
    known = ", ".join(sorted(HISTORY_MEASURES))
    assert (
        "my.yaml:7: Unknown measure of a history 'validation.accuracy'; did you mean 'validation_accuracy'? "
        f"Known: {known}." in faults
    )
    assert f"my.yaml:8: Unknown measure of a history 'kapa'; did you mean 'kappa'? Known: {known}." in faults
    assert any("did you mean 'epochs'?" in fault for fault in faults)
    assert len(faults) == 3
