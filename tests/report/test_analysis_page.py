"""The page of an analysis as a text: what it says, what it escapes, what it does without."""

import html
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser

import analysed
import fabricated
import pytest

from logitlab.config.errors import RecordError
from logitlab.records.analysis import BETWEEN_NAMES, write_analysis
from logitlab.report import analysis_page
from logitlab.report.analysis import Limits, analysis_sections
from logitlab.report.analysis_page import render_analysis, write_analysis_page

EVIL = '<script>alert("x")</script>'
LONG = "a_name_of_eighty_letters:" + "x" * 55


@pytest.fixture(scope="module")
def whole():
    """The page of two models with every measure."""
    return render_analysis(analysed.make_analysis(analysed.LABELS[2:5:2], points=60))


def test_every_measure_has_its_section(whole):
    for key in (
        *("card", "layers", "cka", "agreement", "ensembles", "map", "angles", "densities", "spectra", "hardness"),
        *("calibration", "errors", "strange", "corruptions", "probe"),
    ):
        assert f'id="analysis-{key}"' in whole
        assert f'href="#analysis-{key}"' in whole
    for measure in ("separation", "rank", "span_angle", "tsne", "reliability", "risk_coverage", "probe", "hardness"):
        assert f"convention of {measure} (test, n = 1,000)<" in whole
    assert "linear CKA, biased, feature maps flattened" in whole
    assert len(whole.encode()) < analysis_page.MOST_BYTES


def test_nothing_leads_outside_and_identifiers_are_unique(whole):
    assert not re.findall(r"https?://|//[a-z]", re.sub(r"data:image/png;base64,[^\"]*", "", whole.split("<script>")[0]))
    for target in re.findall(r'(?:src|href)="([^"]*)"', whole):
        assert target.startswith(("#", "data:image/png;base64,"))
    identifiers = re.findall(r'\bid="([^"]*)"', whole)
    assert len(identifiers) == len(set(identifiers))
    used = set(re.findall(r'href="#([^"]*)"', whole)) | set(re.findall(r"url\(#([^)]*)\)", whole))
    assert used | set(re.findall(r'data-for="([^"]*)"', whole)) <= set(identifiers)


def test_every_picture_says_what_it_shows(whole):
    pictures = fabricated.pictures(whole)
    assert len(pictures) > 35
    said = [re.search(r'aria-label="([^"]*)"', svg).group(1) for svg in pictures]
    assert all(len(each) > 10 for each in said)
    assert any("softmax: 0.655" in each for each in said)
    assert any("join first" in each for each in said)


def test_a_missing_measure_has_no_section_and_no_column():
    without = ("tsne", "hull", "cka", "ensembles", "ood", "corruption", "probe", "calibration")
    text = render_analysis(analysed.make_analysis(("softmax",), points=60, without=without))
    for key in ("map", "cka", "ensembles", "strange", "corruptions", "probe"):
        assert f"analysis-{key}" not in text
    for heading in ("hull residual", "OOD AP", "ECE scaled", "corruption error"):
        assert heading not in text
    # What is left of calibration is shown without the temperature.
    assert "ECE 0.080" in text


def test_an_analysis_of_nothing_but_its_models():
    text = render_analysis(analysed.make_analysis(("softmax",), points=10, only=()))
    assert fabricated.pictures(text) == []
    assert "90.00" in text
    assert "analysis-remarks" not in text


def test_one_model_alone():
    text = render_analysis(analysed.make_analysis(("softmax",), points=60))
    for key in ("agreement", "ensembles"):
        assert f"analysis-{key}" not in text
    for key in ("card", "layers", "map", "spectra"):
        assert f'id="analysis-{key}"' in text
    # The matrix with itself is all that CKA has, beside the control.
    assert "softmax, with itself" in text
    # A legend of one is none.
    assert 'class="legend"' not in text.split("</style>")[1].split('id="analysis-cka"')[0]


def test_failures_and_warnings_are_told_in_words():
    given = analysed.make_analysis(
        ("softmax",),
        points=10,
        only=("separation",),
        failures=[
            {"model": "softmax", "measure": "hull", "message": "The features hold NaN."},
            {"model": None, "measure": "cka", "message": "It needs two models."},
        ],
    )
    given.measures["separation"]["softmax"]["warnings"] = ["Few samples a class."]
    text = render_analysis(given)
    assert "2 measures could not be taken" in text
    assert "<b>softmax</b>, hull: The features hold NaN." in text
    assert "<b>between models</b>, CKA: It needs two models." in text
    assert "R², softmax: Few samples a class." in text


def test_names_are_escaped_everywhere():
    labels = [EVIL, LONG, '$x$ & "y"\'\ntwo lines']
    classes = [EVIL, "a&b", "$x$", "</svg><b>", "日本語", "x" * 80, "", " ", "<i>", "\x01"]
    given = analysed.make_analysis(
        labels,
        class_names=classes,
        layers=("<u>stem</u>", "a\nb", "$y$"),
        ood=("<img src=x>",),
        points=20,
        without=("precision_recall", "spectra", "densities", "reliability"),
        failures=[{"model": EVIL, "measure": "<em>", "message": "</li></body>"}],
    )
    text = render_analysis(given, title="<h6>")
    for tag in ("<script>alert", "</svg><b>", "<img src=x>", "<u>", "<i>", "<em>", "</li></body>", "<h6>"):
        assert tag not in text
    assert html.escape(EVIL, quote=False) in html.unescape(text).replace(EVIL, html.escape(EVIL, quote=False))
    # A name with dollars is no formula.
    assert "$y$" in text
    assert ">$x$<" in text
    assert text.count("<body>") == text.count("</body>") == 1
    found = Tags()
    found.feed(text)
    assert found.tags["script"] == found.tags["h1"] == 1
    assert not {"i", "u", "em", "img", "h6"} & set(found.tags)


class Tags(HTMLParser):
    """Counts the elements of a page, as a browser reads it."""

    def __init__(self):
        super().__init__()
        self.tags = Counter()

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        assert not [name for name, _ in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "damage",
    [
        {"spectra": {"features": "none"}},
        {"angle_histogram": {"edges": [0, 1], "own": [1, 2, 3], "other": [1]}},
        {"densities": {"grid": [0.0, 1.0], "within": [1.0], "between": [None, None]}},
        {"tsne": {"points": [[0, 1], [2]], "labels": [0, 1]}},
        {"tsne": {"points": [[0, None]], "labels": [0]}},
        {"reliability": {"edges": [0, 1], "counts": [], "confidence": [], "accuracy": []}},
        {"separation_by_layer": {"layers": ["a", "b"], "value": [0.5]}},
        {"precision_recall": {"max_logit": {"precision": [1.0], "recall": []}}},
        {"risk_coverage": {"value": 3, "convention": "none"}},
        {"probe": {"strengths": [0.0, -1.0], "validation_accuracy": [None, None]}},
        {"hardness": {"grid": [None], "density": [None]}},
        {"misclassification": {"scores": {"max_logit": {}}}},
        {"corruption": {"by_corruption": {}}},
        {"rank": {"value": None}},
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_an_entry_of_another_form_is_left_out(damage):
    """Undefined numbers are None in the file; an older or newer file may hold less or other things."""
    (measure,) = damage
    given = analysed.make_analysis(("softmax",), points=10, only=(measure,))
    given.measures[measure]["softmax"] = {"convention": "said", **damage[measure]}
    text = render_analysis(given)
    assert fabricated.pictures(text) == []
    assert "nan" not in text.split("</style>")[1].split("<script>")[0].lower().replace("nanum", "")


def test_matrices_and_trees_that_do_not_fit_are_left_out():
    given = analysed.make_analysis(("softmax", "cosine"), points=10, only=BETWEEN_NAMES)
    given.between["cka"] = [{"first": "a", "second": "b", "rows": ["x"], "columns": ["y"], "value": [[1, 2]]}]
    given.between["agreement"] = {"names": ["softmax", "cosine"], "kind": "same", "value": [[1, None]]}
    given.between["clustering"]["linkage"] = [[0, 5, 0.1, 2]]
    given.between["ensembles"]["value"] = []
    assert fabricated.pictures(render_analysis(given)) == []


def test_a_matrix_with_undefined_cells_shows_a_dash():
    given = analysed.make_analysis(("softmax", "cosine"), points=10, only=("agreement",))
    given.between["agreement"] = [
        {"names": ["softmax", "cosine"], "kind": "same_when_both_wrong", "value": [[1.0, None], [None, 1.0]]}
    ]
    (matrix,) = (svg for svg in fabricated.pictures(render_analysis(given)) if "both are wrong" in svg)
    assert matrix.count(">–<") == 2
    assert "softmax and softmax: 100" in matrix


def test_many_models_fit_one_page(monkeypatch):
    """Every step of the ladder is below the limit, which a smaller one makes reachable with few models."""
    labels = [f"softmax{number}" for number in range(2)]
    given = analysed.make_analysis(labels, points=2000, only=("tsne",))
    drawn = []
    original = analysis_sections
    monkeypatch.setattr(
        "logitlab.report.analysis.analysis_sections",
        lambda analysis, *, places, limits: drawn.append(limits) or original(analysis, places=places, limits=limits),
    )
    full = len(render_analysis(given).encode())
    assert drawn == [Limits()]
    monkeypatch.setattr(analysis_page, "MOST_BYTES", full - 65_000)
    text = render_analysis(given)
    assert len(text.encode()) < full - 65_000
    assert "Without a picture of their own, to keep this file small: softmax0, softmax1." in text
    assert 'id="table"' in text
    monkeypatch.setattr(analysis_page, "MOST_BYTES", 1000)
    with pytest.raises(RecordError, match="of 2 models: analyse fewer"):
        render_analysis(given)


def test_the_same_analysis_gives_the_same_bytes_without_torch(tmp_path):
    given = analysed.make_analysis(("softmax", "cosine:kappa=5"), points=60, only=("separation", "cka", "tsne", "ood"))
    write_analysis(tmp_path, given)
    code = (
        "import sys; from logitlab.records.analysis import read_analysis;"
        "from logitlab.report.analysis_page import write_analysis_page;"
        f"write_analysis_page(read_analysis({str(tmp_path)!r}), {str(tmp_path / 'other.html')!r});"
        "assert 'torch' not in sys.modules; assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    path = write_analysis_page(given, tmp_path / "page.html")
    assert path.read_bytes() == (tmp_path / "other.html").read_bytes()
