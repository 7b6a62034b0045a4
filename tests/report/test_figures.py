"""The pictures: what they draw, within which axes, in which colours."""

import re
from pathlib import Path

import fabricated
import numpy
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from logitlab.analysis import expected_calibration_error
from logitlab.records import read_outputs, write_outputs
from logitlab.report import artefacts, classwise, page
from logitlab.report.figures import class_accuracy, confusion, learning_curves
from logitlab.report.figures.canvas import plain, shorten
from logitlab.report.figures.reliability import calibration_bins


@pytest.mark.parametrize(("classes", "labels"), [(30, True), (31, False), (43, False), (100, False), (450, False)])
def test_many_classes(root, classes, labels):
    names = [f"class-{number}" for number in range(classes)]
    records = fabricated.fabricate(
        root, heads=("softmax",), seeds=1, classes=classes, names=names, images=max(2000, 20 * classes)
    )
    text = fabricated.written(records, root)
    matrix = next(svg for svg in fabricated.pictures(text) if "Confusion matrix" in svg)
    assert "data:image/png" in matrix
    assert ("class-7" in matrix) is labels
    assert f"20 worst of {classes} classes" in text
    assert ("One cell is 3 × 3 classes" in text) is (classes == 450)
    pair = text[text.index("taken for") :]
    assert pair.count("<tr>") > (3 if classes > 30 else 0)


def test_confusion_and_balanced_accuracy_agree_with_scikit_learn(root):
    records = fabricated.fabricate(root, heads=("softmax",), seeds=2)
    (head,) = artefacts.gather(records, root)
    labels, predicted = head.pooled("labels"), head.pooled("predicted")
    counts = classwise.confusion_counts(head, 5)
    assert (counts == confusion_matrix(labels, predicted)).all()
    assert classwise.accuracies(counts).mean() == pytest.approx(balanced_accuracy_score(labels, predicted))
    worst = classwise.most_confused("softmax", counts, 3)
    beside = counts - numpy.diag(numpy.diag(counts))
    assert [pair.count for pair in worst] == sorted(beside.ravel(), reverse=True)[:3]
    assert all(beside[pair.true, pair.predicted] == pair.count for pair in worst)


def test_the_bins_give_the_expected_calibration_error():
    draw = numpy.random.default_rng(0)
    probabilities = draw.dirichlet([0.5] * 4, 500)
    labels = draw.integers(0, 4, 500)
    bins = calibration_bins(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)
    filled = bins[bins[:, 0] > 0]
    error = (filled[:, 0] * abs(filled[:, 1] - filled[:, 2])).sum() / 500
    assert error == pytest.approx(expected_calibration_error(probabilities, labels).value)
    # A confidence on a border belongs to the bin below it.
    assert calibration_bins(numpy.array([0.2]), numpy.array([True]))[2, 0] == 1


def axis(svg):
    """The texts of the horizontal axis."""
    found = re.findall(r"<text[^>]*x=.([\d.]+)[^>]*y=.([\d.]+)[^>]*>([^<]*)<", svg)
    lowest = max(float(y) for _, y, said in found if said.replace(".", "").isdigit())
    return [said for _, y, said in found if float(y) == lowest]


def test_the_mean_curve_ends_where_the_first_seed_stopped():
    """A mean over the seeds that still train would fall from 90 to 50 here, though no seed falls."""
    histories = [[{"validation_accuracy": 0.9}] * 3, [{"validation_accuracy": 0.5}] * 6]
    (curve, *_) = learning_curves({0: histories})
    paths = re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', curve.svg)
    lines = [(path, style) for path, style in paths if "fill:none" in style and "var(--series-0)" in style]
    (thick,) = [path for path, style in lines if "opacity" not in style]
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", thick)]
    assert len(set(heights)) == 1
    # It reaches from the first epoch to the third, thin lines from the first to the sixth.
    ends = [max(float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", path)) for path, s in lines if "opacity" in s]
    assert max(float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", thick)) == pytest.approx(min(ends))
    assert min(ends) < max(ends)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.974])
def test_accuracies_that_agree_have_an_axis_within_0_and_100(value):
    panel = class_accuracy({0: numpy.full(3, value), 1: numpy.full(3, value)}, ["a", "b", "c"], [0, 1, 2])
    ticks = [float(tick) for tick in axis(panel.svg)]
    assert 0 <= min(ticks) < max(ticks) <= 100
    assert max(ticks) - min(ticks) >= 5
    # Marks of the two heads stand apart.
    places = [re.findall(r'<use [^>]*y="([\d.]+)"', part) for part in panel.svg.split('class="series-')[1:]]
    assert not set(places[0]) & set(places[1])


def test_numbers_can_be_read_on_every_shade():
    """WCAG 1.4.3: 4.5 to 1, on a light and on a dark page, whatever the share."""
    names = [str(number) for number in range(10)]
    counts = numpy.array([[max(1, 10 * (row + column)) for column in range(10)] for row in range(10)])
    svg = confusion(0, "softmax", counts + numpy.diag([100_000] * 5 + [100] * 5), names, "").svg
    opacities = {float(value) for value in re.findall(r"fill:var\(--series-0\);opacity:([\d.]+)", svg)}
    assert max(opacities) > 0.55
    assert len(opacities) > 10
    assert "var(--paper)" not in svg
    style = (Path(page.__file__).parent / "templates" / "report.css").read_text()
    for scheme in style.split("prefers-color-scheme: dark")[:2]:
        ink, paper, colour = (
            [int(re.search(rf"--{name}: #(\w+)", scheme)[1][place : place + 2], 16) for place in (0, 2, 4)]
            for name in ("ink", "paper", "series-0")
        )
        for opacity in opacities:
            shade = [opacity * above + (1 - opacity) * below for above, below in zip(colour, paper)]
            assert contrast(ink, shade) >= 4.5


def contrast(one, other):
    def luminance(colour):
        parts = [value / 255 for value in colour]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_wrong_answers_have_the_colour_of_no_head(root):
    text = fabricated.written(fabricated.fabricate(root, ood=()), root)
    cosines = [svg for svg in fabricated.pictures(text) if "Cosine to the own class" in svg]
    assert len(cosines) == 3
    for place, svg in enumerate(cosines):
        assert set(re.findall(r"var\(--(s[\w-]*)\)", svg)) == {f"series-{place}"}


def test_strange_images_stand_against_right_answers(root):
    """As the measures beside the pictures: mistakes are in neither."""
    records = fabricated.fabricate(root, heads=("softmax",), seeds=1)
    folder = root / "trials" / records[0]["identity"]
    arrays = read_outputs(folder)
    wrong = arrays["predicted"] != arrays["labels"]
    before = [svg for svg in fabricated.pictures(fabricated.written(records, root)) if "answered right against" in svg]
    arrays["max_logit"][wrong], arrays["feature_norm"][wrong] = 50, 50
    write_outputs(folder, arrays)
    assert [
        svg for svg in fabricated.pictures(fabricated.written(records, root)) if "answered right against" in svg
    ] == before
    assert len(before) == 2


def test_pictures_take_their_colours_from_the_page(root):
    for svg in fabricated.pictures(fabricated.written(fabricated.fabricate(root), root)):
        assert not re.findall(r"#[0-9a-fA-F]{6}\b", svg)
        assert "font-family" not in svg


def test_names_are_shortened_in_the_middle_and_cleaned():
    assert shorten("abcdefghij", 5) == "abc…j"
    assert len(shorten("x" * 100, 12)) == 12
    assert plain("a\x00b") == "a�b"


def test_one_seed_and_one_epoch(root):
    text = fabricated.written(fabricated.fabricate(root, seeds=1, epochs=1), root)
    assert "one seed shows no difference" in text.lower()
    assert "validation images, after one epoch." in text
    curve = next(svg for svg in fabricated.pictures(text) if "accuracy on the validation images" in svg)
    assert axis(curve) == ["1"]
