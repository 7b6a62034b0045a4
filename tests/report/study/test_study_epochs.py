"""Figures of the kind ``epochs``: means, seeds, rows without the number, the logarithmic axis."""

import dataclasses
import html
import re

import pytest
from fabricated_results import make_results, make_row

from logitlab.config.study.report import HISTORY_MEASURES
from logitlab.report.study import page, pictures
from logitlab.report.study.epochs import _MEASURES


def study(histories, *, figure, **definition):
    """Return a study with a row a label; a history is a list of epochs, a row's are one a seed."""
    rows = [make_row(label, [0.9] * len(seeds)) for label, seeds in histories.items()]
    results = make_results(rows, figures=[{"title": "t", "kind": "epochs", **figure}], **definition)
    records = {
        trial.identity: {"result": {"history": histories[trial.row][trial.seed]}} for trial in results.plan.trials
    }
    return dataclasses.replace(results, records=records)


def epochs(**measures):
    """Return a history: a list a measure."""
    count = max(len(values) for values in measures.values())
    return [
        {"epoch": number + 1, **{key: values[number] for key, values in measures.items()}} for number in range(count)
    ]


def heights(svg, index):
    """Return the heights of every line of a row, in pixels from the top: the seeds' and, last, the mean's."""
    found = re.findall(rf'<g class="series-{index}"><path d="([^"]*)"', svg)
    return [[float(y) for y in re.findall(r"[ML] [\d.-]+ ([\d.-]+)", path)] for path in found]


def label_of(panel):
    return html.unescape(re.search(r'aria-label="([^"]*)"', panel.svg)[1])


def test_every_measure_has_a_heading():
    assert tuple(sorted(_MEASURES)) == tuple(sorted(HISTORY_MEASURES))


def test_a_strong_line_is_the_mean_and_thin_ones_are_the_seeds():
    results = study(
        {"a": [epochs(loss=[4.0, 2.0, 1.0]), epochs(loss=[2.0, 1.0, 0.0])], "b": [epochs(loss=[1.0, 1.0, 1.0])]},
        figure={"measures": ["loss"]},
    )
    (figure,) = pictures.draw_figures(results)
    (panel,) = figure.panels
    assert (panel.title, figure.kind, figure.faults) == ("loss on the training images", "wide", ())
    assert label_of(panel) == (
        "loss on the training images, through 3 epochs. a: 3 first, 0.5 last; b: 1 first, 1 last"
    )
    one, two, mean = heights(panel.svg, 0)
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(one, two)], abs=0.02)
    assert len(heights(panel.svg, 1)) == 1
    assert panel.words == "Strong: the mean over seeds; thin: the seeds."


def test_an_error_is_what_is_missing_to_an_accuracy_of_one():
    results = study(
        {"a": [epochs(accuracy=[0.25, 0.75], validation_accuracy=[0.2, 0.9])]},
        figure={"measures": ["error", "validation_error", "accuracy"]},
    )
    panels = pictures.draw_figures(results)[0].panels
    assert [label_of(panel) for panel in panels] == [
        "error on the training images, %, through 2 epochs. a: 75 first, 25 last",
        "error on the validation images, %, through 2 epochs. a: 80 first, 10 last",
        "accuracy on the training images, %, through 2 epochs. a: 25 first, 75 last",
    ]
    assert panels[0].words == ""


def test_kappa_on_a_logarithmic_axis_without_the_row_that_has_none():
    results = study(
        {"softmax": [epochs(kappa=[None, None, None])], "Trainable": [epochs(kappa=[0.14, 100.0, 65525.0])]},
        figure={"measures": ["kappa"], "logarithmic": True},
    )
    (panel,) = pictures.draw_figures(results)[0].panels
    assert panel.words == "Left out, for the history holds no such number (κ): softmax."
    assert "series-0" not in panel.svg
    ((first, middle, last),) = heights(panel.svg, 1)
    # 100/0.14 and 65525/100 are 2.854 and 2.816 decades.
    assert (first - middle) / (middle - last) == pytest.approx(2.8539 / 2.8164, abs=0.005)
    assert ">10⁴</text>" in panel.svg


def test_on_a_straight_axis_equal_steps_are_equal():
    results = study({"a": [epochs(kappa=[1.0, 2.0, 3.0])]}, figure={"measures": ["kappa"]})
    ((first, middle, last),) = heights(pictures.draw_figures(results)[0].panels[0].svg, 0)
    assert first - middle == pytest.approx(middle - last, abs=0.02)


def test_what_has_no_place_on_a_logarithmic_axis_is_said():
    results = study(
        {"a": [epochs(validation_accuracy=[0.5, 0.9, 1.0])]},
        figure={"measures": ["validation_error"], "logarithmic": True},
    )
    (panel,) = pictures.draw_figures(results)[0].panels
    assert panel.words == "Values that are not positive have no place on the logarithmic axis and were left out."
    assert len(heights(panel.svg, 0)[0]) == 2


def test_rows_are_chosen_and_an_unfinished_one_is_named():
    histories = {label: [epochs(loss=[2.0, 1.0])] for label in "abc"}
    results = study(histories, figure={"measures": ["loss"], "rows": ["a", "c"]})
    gone = next(trial.identity for trial in results.plan.trials if trial.row == "c")
    records = {identity: record for identity, record in results.records.items() if identity != gone}
    (panel,) = pictures.draw_figures(dataclasses.replace(results, records=records))[0].panels
    assert "series-0" in panel.svg
    assert "series-1" not in panel.svg
    assert panel.words == "No trial of c has finished."


def test_nothing_to_draw_is_words():
    results = study({"softmax": [epochs(kappa=[None])]}, figure={"measures": ["kappa"]})
    (panel,) = pictures.draw_figures(results)[0].panels
    assert (panel.svg, panel.words) == (None, "Left out, for the history holds no such number (κ): softmax.")
    newer = study({"a": [epochs(loss=[1.0])]}, figure={"measures": ["gradient"]})
    (panel,) = pictures.draw_figures(newer)[0].panels
    assert panel.svg is None
    assert panel.words.startswith("No history holds 'gradient'. Known: loss, accuracy, error,")


def test_rows_of_other_images_have_a_picture_of_their_own():
    rows = [make_row(f"a [data = {name}]", [0.9], settings={"data": name}, entry="a") for name in ("digits", "svhn")]
    figures = [{"title": "t", "kind": "epochs", "measures": ["loss"]}]
    results = make_results(rows, figures=figures, grid={"data": ["digits", "svhn"]})
    history = {"result": {"history": epochs(loss=[2.0, 1.0])}}
    results = dataclasses.replace(results, records={trial.identity: history for trial in results.plan.trials})
    panels = pictures.draw_figures(results)[0].panels
    assert [panel.title for panel in panels] == [
        "loss on the training images, data = digits",
        "loss on the training images, data = svhn",
    ]


def test_the_page_has_it_with_identifiers_of_its_own():
    from fabricated_results import example

    results, paper = example()
    figures = [
        {"title": "One", "kind": "epochs", "measures": ["loss", "validation_error"]},
        {"title": "Two", "kind": "epochs", "measures": ["loss"], "logarithmic": True},
    ]
    definition = type(results.definition).model_validate({**results.definition.model_dump(), "figures": figures})
    text = page.render_study(dataclasses.replace(results, definition=definition), paper)
    found = re.findall(r'\bid="([^"]+)"', text)
    assert len(found) == len(set(found))
    assert text.count("error on the validation images, %, through 6 epochs.") == 1
