"""The pictures and tables of an analysis: which numbers they show, where, in which order."""

import re

import analysed
import numpy
import pytest

from logitlab.report.analysis import Limits, analysis_sections
from logitlab.report.analysis.reading import Reading, numbers
from logitlab.report.analysis.tables import SCALARS, scalar_table
from logitlab.report.columns import Column
from logitlab.report.figures.card import Dot, card
from logitlab.report.figures.dendrogram import dendrogram
from logitlab.report.figures.embedding import embedding
from logitlab.report.figures.heat_map import heat_map
from logitlab.report.figures.model_lines import MOST_POINTS, Axis, Line, model_lines, thinned
from logitlab.report.figures.pairs_of_densities import Pair, reach

TWO = ("cosine:kappa=5", "softmax")


def section_of(given, key, **limits):
    found = analysis_sections(given, limits=Limits(**limits))
    return next(each for each in found.sections if each.key == key)


def line_points(svg, index):
    """The vertices of the line of one model, in pixels from the top left."""
    path = re.search(rf'<g class="series-{index}"><path d="([^"]*)"', svg).group(1)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.-]+) ([\d.-]+)", path)]


def test_the_table_holds_the_numbers_of_the_file():
    given = analysed.make_analysis(TWO, points=10)
    grid = scalar_table(Reading(given))
    headings = [heading for heading, _ in grid.headings]
    values = {heading: cell.value for heading, cell in zip(headings, grid.rows[0][2])}
    label = TWO[0]
    assert float(values["R²"]) == given.measures["separation"][label]["value"]
    assert float(values["NLL scaled ↓"]) == 0.35
    assert float(values["κ"]) == 5
    assert float(values["MISS AUROC ↑"]) == given.measures["misclassification"][label]["scores"]["max_logit"]["auroc"]
    sets = given.ood[label].values()
    assert float(values["OOD AP ↑"]) == pytest.approx(sum(each["max_logit"]["ap"] for each in sets) / 2)
    # A head without κ has a dash that sorts to the end.
    other = dict(zip(headings, grid.rows[1][2]))
    assert (other["κ"].mean, other["κ"].value) == ("–", "")
    assert dict(grid.headings)["ECE ↓"] == "ascending"
    assert len(headings) == len(SCALARS)


def test_a_set_without_the_score_has_no_mean_over_the_sets():
    given = analysed.make_analysis(TWO, points=10)
    given.ood["softmax"]["photographs"]["max_logit"]["ap"] = None
    reading = Reading(given)
    assert reading.ood_mean(reading.models[1], "ap") is None
    assert reading.ood_mean(reading.models[1], "auroc") is not None


def test_scores_have_a_table_a_measure():
    found = section_of(analysed.make_analysis(TWO, points=10, only=("ood",)), "strange")
    assert [each.title for each in found.tables][:3] == [
        "AP, right answers before photographs",
        "AUROC, right answers before photographs",
        "FPR@95, right answers before photographs",
    ]
    assert [each.folded for each in found.tables] == [False, True, True] * 2
    ap = found.tables[0].grid
    assert [heading for heading, _ in ap.headings][-1] == "base rate"
    assert dict(found.tables[2].grid.headings)["energy ↓"] == "ascending"
    assert float(ap.rows[1][2][0].value) == pytest.approx(0.87)


def test_separation_by_layer_has_the_null_value_as_a_dashed_line():
    given = analysed.make_analysis(TWO, points=10, only=("separation_by_layer", "separation"))
    svg = section_of(given, "layers").groups[0].panels[0].svg
    assert "random labels 0.009" in svg
    null = next(
        float(path.split()[2])
        for path, style in re.findall(r'<path d="(M [^"]*)"[^>]*style="([^"]*)"', svg)
        if "stroke-dasharray" in style and "var(--muted)" in style
    )
    # Zero lies at the bottom of the axis; the dashed line a hair above it, below every layer.
    (_, first), *_, (_, last) = line_points(svg, 0)
    bottom = max(float(y) for y in re.findall(r'<use href="[^"]*" x="56" y="([\d.]+)"', svg))
    assert last < first < null < bottom
    measured = given.measures["separation_by_layer"][TWO[0]]["value"]
    assert (bottom - null) / (bottom - last) == pytest.approx(9 / 999 / measured[-1], rel=0.05)


def test_sparsity_is_drawn_as_what_is_not_zero():
    given = analysed.make_analysis(("softmax",), points=10, only=("sparsity_by_layer",))
    given.measures["sparsity_by_layer"]["softmax"]["value"] = [0.0, 0.25, 0.5, 0.75, 1.0]
    svg = section_of(given, "layers").groups[0].panels[0].svg
    heights = [y for _, y in line_points(svg, 0)]
    assert numpy.diff(heights) == pytest.approx(numpy.full(4, heights[-1] / 4 - heights[0] / 4), abs=0.05)
    assert "softmax: 100 first, 0 last" in svg


def test_models_with_other_layers_have_a_chart_of_their_own():
    given = analysed.make_analysis(TWO, points=10, only=("separation_by_layer", "sparsity_by_layer"))
    entry = given.measures["separation_by_layer"]["softmax"]
    entry["layers"], entry["value"] = ["a", "b"], [0.1, 0.2]
    panels = section_of(given, "layers").groups[0].panels
    assert len(panels) == 3
    assert "series-1" not in panels[0].svg
    assert "series-0" not in panels[1].svg


def test_cka_shows_pairs_and_the_control_first():
    found = section_of(analysed.make_analysis(analysed.LABELS[:5], layers=("a", "b"), only=("cka",)), "cka")
    lines, across, front, rest = found.groups
    assert len(lines.legend) == 7
    assert [panel.title for panel in across.panels] == ["a", "b"]
    assert front.panels[-1].title == "cosine:kappa=5 and cosine:kappa=5 (control)"
    assert not any("itself" in panel.title for panel in front.panels)
    # Fifteen pairs of five models, each with itself among them, and one control.
    assert len(front.panels) + len(rest.panels) == 16
    assert rest.folded
    few = analysed.make_analysis(analysed.LABELS[:3], layers=("a",), only=("cka",))
    fewer = section_of(few, "cka", matrices=5).groups[-1]
    assert (len(fewer.panels), fewer.note) == (1, "2 more stand in analysis.json alone.")


def test_a_small_matrix_has_numbers_and_a_large_one_is_a_picture():
    def draw(count):
        names = [f"n{place}" for place in range(count)]
        values = numpy.arange(count**2).reshape(count, count) / count**2
        return heat_map("m", "title", names, names, values, low=0, high=1, write="{:.2f}".format).svg

    small, large, huge = draw(3), draw(13), draw(40)
    assert ">0.78<" in small
    assert "data:image/png" not in small
    assert "data:image/png" in large
    assert ">n12<" in large
    assert ">n12<" not in huge
    assert "1600 values from 0.00" in huge.replace("40 × 40", "1600")


def test_the_strength_of_a_cell_is_its_value():
    svg = heat_map("m", "t", "ab", "ab", numpy.array([[0, 0.5], [1, 0.25]]), low=0, high=1, write=str).svg
    assert re.findall(r"fill:var\(--series-0\);opacity:([\d.]+)", svg) == ["0.3", "0.6", "0.15"]


def test_the_tree_is_that_of_scipy():
    names = ["one", "two", "three"]
    linkage = numpy.array([[0, 2, 0.1, 2], [1, 3, 0.4, 3]])
    panel = dendrogram("d", "t", names, linkage, {"one": 0}, axis="distance")
    assert "one and three join first, at 0.1; all are one group at 0.4." in panel.svg
    # Leaves that are joined stand side by side.
    order = re.findall(r">(one|two|three)<", panel.svg)
    assert sorted(order.index(each) for each in ("one", "three")) in ([0, 1], [1, 2])
    assert panel.svg.count("var(--series-0)") == 1 or "series-0" in panel.svg


def test_models_beyond_the_limit_are_named():
    given = analysed.make_analysis(
        analysed.LABELS[:2], points=10, only=("tsne", "densities", "reliability", "angle_histogram")
    )
    for key in ("map", "densities", "calibration", "angles"):
        found = section_of(given, key, own=1)
        assert len(found.groups[0].panels) == 1
        assert found.left_out == analysed.LABELS[1:2]


def test_a_map_has_a_dot_an_image_and_no_more_than_it_may():
    draw = numpy.random.default_rng(0)
    points, classes = draw.normal(size=(3000, 2)), numpy.arange(3000) % 25
    svg = embedding("e", 0, "m", points, classes, [f"c{n}" for n in range(25)]).svg
    assert len(re.findall(r"M[\d.]+ [\d.]+h0", svg)) == 2000
    assert ">c1<" not in svg
    assert len(svg) < 60_000
    few = embedding("e", 0, "m", points[:40], classes[:40] % 12, [f"c{n}" for n in range(12)]).svg
    assert len(re.findall(r"h0", few)) == 40
    assert ">c11<" in few
    # The eleventh class takes the first colour and another shape.
    assert few.count("var(--class-0)") == 2
    assert few.count("stroke-linecap:square") >= 1


def test_the_card_stands_over_kappa_where_models_differ_in_it():
    column = Column("r2", "R²", None, 3)
    kappas = [5.0, 10.0, 20.0, None]
    dots = [Dot(place, f"m{place}", "cosine", kappa, 0.9 - 0.1 * place) for place, kappa in enumerate(kappas)]
    panel = card("c", column, dots)
    assert "R² over κ. m0 at κ 5: 0.900" in panel.svg
    assert "m3: 0.600" in panel.svg
    assert ">no κ<" in panel.svg
    places = [float(re.search(rf'series-{n}">.*?<use [^>]*x="([\d.]+)"', panel.svg).group(1)) for n in range(4)]
    # Doublings of κ are equally far apart; what has no κ stands right of all.
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.05)
    assert places[3] > places[2]


def test_the_card_is_rows_of_dots_where_kappa_says_nothing():
    column = Column("r2", "R²", None, 3)
    panel = card("c", column, [Dot(0, "a", "a", 5.0, 0.9), Dot(1, "b", "b", 5.0, None), Dot(2, "c", "c", None, 0.7)])
    assert "over κ" not in panel.svg
    assert "a: 0.900; b: not measured; c: 0.700" in panel.svg
    assert card("c", column, [Dot(0, "a", "a", 5.0, None), Dot(1, "b", "b", 6.0, None)]).svg is None


def test_a_logarithmic_axis_leaves_out_what_it_has_no_place_for():
    y = numpy.array([1.0, 0.1, 0.0, -1.0, numpy.nan, 0.01])
    line = Line(0, "m", numpy.arange(6.0), y)
    svg = model_lines("n", "t", [line], Axis("x"), Axis("y", log=True)).svg
    # NaN leaves a gap; zero and below have no logarithm.
    assert len(line_points(svg, 0)) == 3
    assert model_lines("n", "t", [Line(0, "m", y * numpy.nan, y)], Axis("x"), Axis("y")).svg is None
    assert model_lines("n", "t", [], Axis("x"), Axis("y")).svg is None


def test_thinning_keeps_both_ends():
    for points in (1, 119, 120, 121, 5000):
        chosen = thinned(points)
        assert (chosen[0], chosen[-1]) == (0, points - 1)
        assert len(chosen) == min(points, MOST_POINTS)
        assert (numpy.diff(chosen) > 0).all()


def test_all_models_share_the_axis_that_holds_their_densities():
    grid = numpy.linspace(0, 2, 201)
    narrow, wide = (analysed.bell(grid, middle, 0.05) for middle in (0.5, 1.5))
    low, high = reach([Pair(grid, narrow, narrow), Pair(grid, wide, wide)])
    assert 0.3 < low < 0.4
    assert 1.6 < high < 1.7
    assert reach([]) is None
    assert reach([Pair(grid, 0 * grid, 0 * grid)]) is None


def test_reliability_says_both_errors_and_draws_the_scaled_line_dashed():
    given = analysed.make_analysis(("softmax",), points=10, only=("reliability", "calibration"))
    (panel,) = section_of(given, "calibration").groups[0].panels
    assert panel.words == "ECE 0.082, scaled 0.013 at T = 1.06"
    with_after = panel.svg.count("stroke:currentColor")
    del given.measures["reliability"]["softmax"]["after"]
    (panel,) = section_of(given, "calibration").groups[0].panels
    assert panel.svg.count("stroke:currentColor") == with_after - 1


def test_undefined_numbers_become_nan_and_ragged_lists_nothing():
    assert numpy.isnan(numbers([[1, None]])[0, 1])
    assert numbers([[1], [1, 2]]).size == 0
    assert numbers("none").size == 0


def test_a_model_keeps_the_place_that_a_page_gave_it():
    given = analysed.make_analysis(TWO, points=10, only=("separation_by_layer",))
    found = analysis_sections(given, places={TWO[0]: 3, TWO[1]: 1})
    assert [model.index for model in found.models] == [3, 1]
    svg = next(each for each in found.sections if each.key == "layers").groups[0].panels[0].svg
    assert "series-3" in svg
    assert "series-0" not in svg
