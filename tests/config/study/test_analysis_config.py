"""The key ``analysis`` of a study: read, merged, and told wrong with the nearest right name."""

from __future__ import annotations

import textwrap

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.config.study.reading import parse_study
from logitlab.config.study.salvage import StudyFaultsError
from logitlab.studies.catalogue import definition_yaml

STUDY = """
heads:
  - softmax
  - {head: cosine, label: "κ = {head.kappa:g}", grid: {head.kappa: [5, 20]}}
analysis:
  measures: [agreement, cka]
  part: validation
  limit: 100
  control: true
  ood: [noise]
  rows: [softmax, κ = 20]
  seeds: 2
scales:
  small: {}
  tiny: {analysis: {limit: 10, measures: [accuracy]}}
default_scale: small
"""


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        parse_study(textwrap.dedent(text))
    return caught.value.faults


def test_it_is_read_and_a_scale_is_merged_over_it() -> None:
    small, tiny = parse_study(STUDY).analysis, parse_study(STUDY, scale="tiny").analysis
    assert small is not None
    assert tiny is not None
    assert small.model_dump() == {
        "measures": ("agreement", "cka"),
        "part": "validation",
        "limit": 100,
        "control": True,
        "ood": ("noise",),
        "rows": ("softmax", "κ = 20"),
        "seeds": 2,
    }
    assert (tiny.limit, tiny.measures, tiny.control) == (10, ("accuracy",), True)


def test_a_study_without_it_has_none() -> None:
    assert parse_study("heads: [softmax]").analysis is None


def test_it_is_written_as_it_was_read() -> None:
    definition = parse_study(STUDY)
    assert parse_study(definition_yaml(definition)).analysis == definition.analysis
    assert "analysis" not in definition_yaml(parse_study("heads: [softmax]"))


def test_every_fault_is_told_with_its_line_and_the_nearest_name() -> None:
    faults = faults_of(
        """
        heads: [softmax, {head: cosine, label: mine}]
        analysis:
          measure: [accuracy]
          measures: [agreement]
          part: tests
          limit: 0
          seeds: two
          rows: [softmax, mime]
        """
    )
    text = "\n".join(faults)
    for part in (
        "study.yaml:4: Unknown option 'analysis.measure'; did you mean 'measures'?",
        "study.yaml:6: 'analysis.part'",
        "did you mean 'test'?",
        "study.yaml:7: 'analysis.limit' must be greater than or equal to 1. Got 0.",
        "study.yaml:8: 'analysis.seeds'",
        "study.yaml:9: Unknown row 'mime'; did you mean 'mine'?",
    ):
        assert part in text, part
    assert len(faults) == 5


def test_what_is_named_twice_or_lacks_is_a_fault() -> None:
    (twice,) = faults_of("heads: [softmax]\nanalysis: {measures: [cka, rank, cka]}")
    assert twice.endswith("analysis: 'measures' names 'cka' twice. Name each once.")
    (lacking,) = faults_of("heads: [softmax]\nanalysis: {part: test}")
    assert "'analysis.measures' is missing" in lacking
    (empty,) = faults_of("heads: [softmax]\nanalysis: {measures: []}")
    assert "'analysis.measures' is empty" in empty


def test_what_is_left_of_a_faulty_study_asks_for_no_row_that_is_gone() -> None:
    with pytest.raises(StudyFaultsError) as caught:
        parse_study("heads: [softmax]\nanalysis: {measures: [nonsense], rows: [softmaks]}")
    assert caught.value.rest is not None
    assert caught.value.rest.analysis is not None
    # Its measures are still looked at.
    assert caught.value.rest.analysis.rows == ()
    assert caught.value.rest.analysis.measures == ("nonsense",)
