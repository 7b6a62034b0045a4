"""The analysis of a study on its page: in the colours of the rows, within the size of a page, or in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import analysed
import pytest
from fabricated_results import ACCURACY, identity_of, make_results, make_row

from logitlab.records.analysis import Analysis
from logitlab.records.study import StudyResults
from logitlab.report.analysis import analysis_sections
from logitlab.report.study import page, write_study_report

ROWS = ("softmax", "κ = 5", "κ = 20")


def analysis_of(rows: Sequence[str], seeds: int, **given: Any) -> Analysis:
    """An analysis of ``seeds`` models of each row, with the identities that fabricated results have."""
    which = [(row, seed) for row in rows for seed in range(seeds)]
    made = analysed.make_analysis([f"{row}, seed {seed}" for row, seed in which], points=20, **given)
    models = [
        model.model_copy(update={"seed": seed, "identity": identity_of(row, seed)})
        for model, (row, seed) in zip(made.models, which)
    ]
    return made.model_copy(update={"models": tuple(models)})


#: Lines, pictures of single models, and of all together.
SOME = ("accuracy", "separation_by_layer", "angle_histogram", "agreement", "ensembles")


def results_of(rows: Sequence[str] = ROWS, seeds: int = 2, **definition: Any) -> StudyResults:
    made = [make_row(row, [0.9 + 0.01 * place] * seeds) for place, row in enumerate(rows)]
    return make_results(made, columns=[ACCURACY], analysis={"measures": ["agreement"]}, **definition)


@pytest.fixture(scope="module")
def whole() -> str:
    # In another order than the rows of the study.
    return page.render_study(replace(results_of(), analysis=analysis_of(ROWS[::-1], 2, only=SOME)))


def test_every_section_is_there(whole: str) -> None:
    for key in ("layers", "angles", "agreement", "ensembles"):
        assert f'id="analysis-{key}"' in whole, key
        assert f'href="#analysis-{key}"' in whole
    assert 'href="#analysis">Analysis' in whole
    assert "All models side by side" in whole
    assert "Every model has the colour and the mark of its row above." in whole


def test_no_identifier_comes_twice(whole: str) -> None:
    found = re.findall(r'\bid="([^"]+)"', whole)
    assert len(found) == len(set(found))


def swatch_of(text: str, name: str) -> str:
    """The colour of the swatch before a name in the tables of a page."""
    found = re.search(
        rf'style="color:var\((--series-\d)\)">(?:(?!</svg>).)*</svg>\s*{re.escape(name)}<', text, re.DOTALL
    )
    assert found is not None, name
    return found.group(1)


def test_models_have_the_colour_of_their_row(whole: str) -> None:
    text = whole.replace("<wbr>", "")
    for place, row in enumerate(ROWS):
        assert swatch_of(text, row) == f"--series-{place}"
        for seed in range(2):
            assert swatch_of(text[text.index('id="analysis"') :], f"{row}, seed {seed}") == f"--series-{place}"


def test_each_model_can_be_shown_alone(whole: str) -> None:
    layers = whole[whole.index('id="analysis-layers"') :]
    legend = layers[: layers.index("</ul>")]
    buttons = re.findall(r'data-series="(series-\d+)"', legend)
    assert len(buttons) == len(set(buttons)) == 6
    for button in buttons:
        assert f'class="{button}"' in layers


def test_a_row_beyond_the_colours_shares_none_with_another_model() -> None:
    rows = [f"row {number}" for number in range(8)]
    found = page._model_places(results_of(rows), analysis_of(rows, 2))
    assert len(set(found.values())) == 16
    assert [place % 7 for place in found.values()] == [number % 7 for number in range(8) for _ in range(2)]
    assert found["row 7, seed 0"] == 7


def test_models_of_no_row_stand_beyond_them() -> None:
    found = page._model_places(results_of(ROWS[:2]), analysis_of(ROWS, 2))
    assert len(set(found.values())) == 6
    assert found["κ = 20, seed 0"] == 2


def test_what_is_not_there_is_said() -> None:
    results = results_of()
    assert "nothing has been so far." in page.render_study(results)
    told = page.render_study(replace(results, analysis_fault="'analysis.json' is damaged: <here>."))
    assert "The analysis cannot be shown. &#39;analysis.json&#39; is damaged: &lt;here&gt;." in told
    assert 'id="table"' in told
    plain = page.render_study(make_results([make_row("a", [0.9, 0.91])], columns=[ACCURACY]))
    assert 'id="analysis"' not in plain


def test_another_analysis_makes_another_page(tmp_path: Any) -> None:
    path = tmp_path / "report.html"
    results = results_of()
    before = write_study_report(results, path).read_bytes()
    analysis = analysis_of(ROWS, 2, only=("accuracy", "agreement"))
    first = write_study_report(replace(results, analysis=analysis), path).read_bytes()
    assert first != before
    changed = analysis.model_copy(update={"between": {}})
    assert b'id="analysis-agreement"' in first
    assert b'id="analysis-agreement"' not in write_study_report(replace(results, analysis=changed), path).read_bytes()


def test_its_pictures_leave_the_page_before_the_table_does(monkeypatch: pytest.MonkeyPatch) -> None:
    only = ("accuracy", "agreement", "clustering", "separation_by_layer")
    results = replace(results_of(), analysis=analysis_of(ROWS, 2, only=only))
    size = len(page.render_study(results).encode())
    without = len(page.render_study(replace(results, analysis=None)).encode())
    assert without < 0.8 * size
    monkeypatch.setattr(page, "MOST_BYTES", without + 5_000)
    monkeypatch.setattr("logitlab.report.analysis_page.within", lambda *given, **options: iter(()))
    text = page.render_study(results)
    assert "The pictures of the analysis leave no room for this page" in text
    assert 'id="analysis-agreement"' not in text
    # The study's own pictures stay.
    assert 'id="figures"' in text
    assert len(text.encode()) < page.MOST_BYTES


def test_sections_that_do_not_fit_are_named() -> None:
    found = analysis_sections(analysis_of(ROWS, 2, only=("accuracy", "agreement", "ensembles", "separation_by_layer")))
    sizes = {each.short: each.size for each in found.sections}
    assert list(sizes) == ["Layers", "Agreement", "Ensembles"]
    kept, left_out = page._sections_within(found, sizes["Layers"] + sizes["Ensembles"])
    assert ([each.short for each in kept.sections], left_out) == (["Layers", "Ensembles"], ["Agreement"])
    assert page._sections_within(found, found.size) == (found, [])
    assert page._sections_within(found, 0)[0].sections == ()


@pytest.mark.slow
def test_many_models_fit_into_a_page() -> None:
    rows = [f"a head with a long name, {number}" for number in range(14)]
    only = ("accuracy", "agreement", "spectra", "densities", "angle_histogram", "separation_by_layer", "ensembles")
    text = page.render_study(replace(results_of(rows, 3), analysis=analysis_of(rows, 3, only=only)))
    assert len(text.encode()) < page.MOST_BYTES
    assert 'id="analysis-agreement"' in text
    assert "Without a picture of their own, to keep this file small" in text
