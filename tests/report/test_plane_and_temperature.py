"""Pictures of features in their plane, of losses by cosine, and of the softmax at the largest κ*."""

import html
import re

import analysed
import numpy
import pytest

from logitlab.report.analysis import Limits, analysis_sections
from logitlab.report.analysis.reading import spoken
from logitlab.report.figures.loss_curves import LossCurve, loss_curves
from logitlab.report.figures.plane import name_places, plane

TWO = ("cosine:kappa=5", "softmax")
OURS = ("plane", "loss_by_cosine", "sparse_softmax")


def sections(given, **limits):
    return {each.key: each for each in analysis_sections(given, limits=Limits(**limits)).sections}


def label_of(panel):
    return html.unescape(re.search(r'aria-label="([^"]*)"', panel.svg)[1])


def test_each_has_a_section_with_its_convention():
    found = sections(analysed.make_analysis(TWO, points=40, only=OURS))
    assert list(found) == ["plane", "loss-by-cosine", "sparse-softmax"]
    for key, measure in zip(found, OURS):
        assert found[key].conventions == ((spoken(measure), f"convention of {measure} (test, n = 1,000)"),)
        assert all(len(label_of(panel)) > 30 for group in found[key].groups for panel in group.panels)
    assert [spoken(name) for name in OURS] == [
        "features in their plane",
        "loss by the cosine to the own class",
        "softmax at the largest κ*",
    ]


def test_more_models_than_the_page_has_room_for_are_named():
    found = sections(analysed.make_analysis(TWO, points=40, only=OURS), own=1)
    assert found["plane"].left_out == found["sparse-softmax"].left_out == ("softmax",)
    assert len(found["plane"].groups[0].panels) == 1
    assert len(found["sparse-softmax"].groups) == 1


def paths(svg, colour):
    """Return the points of every path that is drawn in a colour of the page."""
    found = re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg)
    return [
        [(float(x), float(y)) for x, y in re.findall(r"[MLQ] ?([\d.-]+) ([\d.-]+)", path)]
        for path, style in found
        if f"stroke:var(--{colour})" in style
    ]


def test_arrows_point_from_the_origin_along_the_weights():
    points = numpy.array([[3.0, 0.0], [0.0, 3.0], [-3.0, -3.0]])
    weight = numpy.array([[5.0, 0.0], [0.0, 0.1], [-2.0, -2.0]])
    panel = plane("p", 2, "m", points, numpy.arange(3), weight, ["a", "b", "c"], words="3 images")
    assert (panel.series, panel.words) == (2, "3 images")
    assert label_of(panel) == (
        "Features of m in their plane: 3 images of 3 classes, and the directions of 3 class weights. 3 images"
    )
    tips = []
    for place in range(3):
        # The dot of the class, then shaft and head of its arrow.
        _, shaft, *_ = paths(panel.svg, f"class-{place}")
        (x0, y0), (x1, y1) = shaft[0], shaft[-1]
        tips.append((x1 - x0, y0 - y1))
    directions = numpy.array(tips) / numpy.linalg.norm(tips, axis=1, keepdims=True)
    assert directions == pytest.approx(weight / numpy.linalg.norm(weight, axis=1, keepdims=True), abs=0.02)
    # Their lengths mean nothing, so they are equal.
    lengths = numpy.linalg.norm(tips, axis=1)
    assert lengths == pytest.approx(numpy.full(3, lengths.mean()), rel=0.05)
    assert all(f">{name}</text>" in panel.svg for name in "abc")


def test_a_plane_of_zeros_and_of_several_centres():
    nothing = plane("p", 0, "m", numpy.zeros((2, 2)), numpy.zeros(2, dtype=int), numpy.eye(2), ["a", "b"])
    assert "directions of 0 class weights" in label_of(nothing)
    weight = numpy.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.0, 0.0]])
    several = plane("p", 0, "m", numpy.eye(2), numpy.arange(2), weight, ["a", "b"])
    # Two centres a class; the zero row has no direction.
    assert "directions of 3 class weights" in label_of(several)
    assert several.svg.count(">a</text>") == 2
    assert several.svg.count(">b</text>") == 1


def curve(kappa, index=0, counts=(0, 0, 10, 90), loss=(numpy.nan, numpy.nan, 2.0, 0.5)):
    grid = numpy.linspace(-1, 1, 41)
    return LossCurve(
        index,
        f"κ = {kappa:g}",
        kappa,
        grid,
        numpy.logaddexp(0, numpy.log(9) - kappa * grid),
        numpy.linspace(-1, 1, 5),
        numpy.array(counts, dtype=float),
        numpy.array(loss),
    )


def test_all_curves_meet_at_the_cosine_zero():
    panel = loss_curves("l", "t", [curve(5.0), curve(60.0, 1)], words="Said.")
    assert panel.words == "Said."
    assert label_of(panel) == (
        "t. κ = 5 at κ 5: most images between 0.5 and 1, loss 0.5; κ = 60 at κ 60: most images between 0.5 and 1, "
        "loss 0.5"
    )
    # A line a model, and a mark for each bin that has images.
    assert panel.svg.count('class="series-0"') == panel.svg.count('class="series-1"') == 3


def test_a_few_hopeless_images_do_not_squeeze_the_picture():
    crowd = curve(5.0, counts=(1, 0, 1000, 9000), loss=(40.0, numpy.nan, 1.0, 0.3))
    panel = loss_curves("l", "t", [crowd])
    assert panel.words == "Beyond the picture: 1 of 10,001 images."
    assert "40" not in re.findall(r">([\d.−]+)</text>", panel.svg)
    assert loss_curves("l", "t", []).svg is None


def test_the_softmax_has_rings_and_words():
    found = sections(analysed.make_analysis(("softmax",), points=10, only=("sparse_softmax",)))["sparse-softmax"]
    (group,) = found.groups
    cosines, softmax = group.panels
    assert (group.title, group.folded) == ("softmax", False)
    assert (cosines.title, softmax.title) == ("cosines", "softmax at κ* = 102")
    assert cosines.words == "Largest 0.12; its class: class 1."
    assert softmax.words == (
        "2 of 10 classes hold 100 % of the softmax. TS Eq. (29) would ask for κ = 61.5 with as many classes at the "
        "largest cosine."
    )
    assert label_of(softmax).endswith("softmax: 2 of 10 classes hold 100 % of the softmax: class 0, class 1")
    assert "Ringed: class 0, class 1" in label_of(cosines)
    # Two rings, drawn in the ink of the page.
    marks = re.findall(r'<use href="#sparse-cosines-0-[^"]*"[^>]*style="[^"]*stroke:currentColor', cosines.svg)
    assert len(marks) == 2


def test_one_class_holds_and_names_of_near_directions_take_turns():
    given = analysed.make_analysis(("softmax",), points=10, only=("sparse_softmax",))
    given.measures["sparse_softmax"]["softmax"] |= {"winners": [0], "model_kappa": None}
    (group,) = sections(given)["sparse-softmax"].groups
    assert group.panels[1].words == "1 of 10 classes holds 73.5 % of the softmax."
    angles = numpy.radians([0, 90, 5, 12, 17, 30])
    tips = numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)
    assert name_places(tips).tolist() == [1.1, 1.1, 1.24, 1.38, 1.1, 1.1]


def test_of_many_models_the_later_ones_are_folded():
    found = sections(analysed.make_analysis(analysed.LABELS, points=10, only=("sparse_softmax",)))["sparse-softmax"]
    assert [group.folded for group in found.groups] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    "damage",
    [
        {"plane": {"points": [[0, 1], [2]], "labels": [0, 1], "weight": [[1, 0]]}},
        {"plane": {"points": [[0, 1]], "labels": [0], "weight": [[1, 0, 0]]}},
        {"plane": {"points": [[0, None]], "labels": [0], "weight": [[1, 0]]}},
        {"loss_by_cosine": {"edges": [-1, 1], "counts": [0], "loss": [None], "grid": [0], "curve": [1], "kappa": 5}},
        {"loss_by_cosine": {"edges": [-1, 1], "counts": [1], "loss": [None], "grid": [0], "curve": [1], "kappa": 5}},
        {"loss_by_cosine": {"edges": [-1, 1], "counts": [1], "loss": [1], "grid": [0], "curve": [1], "kappa": None}},
        {"loss_by_cosine": {"edges": [-1, 0, 1], "counts": [1], "loss": [1], "grid": [0], "curve": [1], "kappa": 5}},
        {"sparse_softmax": {"cosines": [0.1, 0.2], "probabilities": [1.0], "winners": [0], "value": 5}},
        {"sparse_softmax": {"cosines": [0.1, 0.2], "probabilities": [0.5, 0.5], "winners": [2], "value": 5}},
        {"sparse_softmax": {"cosines": [0.1, 0.2], "probabilities": [0.5, 0.5], "winners": [0], "value": None}},
        {"sparse_softmax": {"cosines": [0.1, None], "probabilities": [0.5, 0.5], "winners": [0], "value": 5}},
    ],
)
def test_an_entry_of_another_form_is_left_out(damage):
    (measure,) = damage
    given = analysed.make_analysis(("softmax",), points=10, only=(measure,))
    given.measures[measure]["softmax"] = {"convention": "said", **damage[measure]}
    assert sections(given) == {}
