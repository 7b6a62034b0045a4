"""The page of a study: one file, whole, the same for the same results, with words where something lacks."""

import dataclasses
import re
import subprocess
import sys
from itertools import pairwise

import pytest
from fabricated_results import ACCURACY, example, identity_of, make_results, make_row

from logitlab.config.errors import RecordError
from logitlab.config.study import ColumnConfig, SearchConfig
from logitlab.records.study import PlannedTrial
from logitlab.report.figures import axis_lines as lines_module
from logitlab.report.figures.axis_lines import AxisLine, AxisPoint, axis_lines
from logitlab.report.figures.row_scatter import Mark, row_scatter
from logitlab.report.study import page, write_study_report
from logitlab.report.study.prose import to_html
from logitlab.report.study.reading import setting_text
from logitlab.report.study.searches import searches
from logitlab.report.study.state import scale_text, study_command, study_state
from logitlab.statistics import Estimate


@pytest.fixture(scope="module")
def whole():
    results, paper = example()
    return page.render_study(results, paper)


def test_it_holds_everything(whole):
    for part in (
        "Temperatures of cosine softmax, and the κ that least squares finds &lt;T Table 2&gt;",
        "Scale small, which is not the paper&#39;s setting.",
        "logitlab study run t-table-2 --scale small",
        "Does the <b>best</b> κ follow from <code>κ*</code>?",
        "<i>chosen</i> by &lt;us&gt;",
        "T Table 2; settings T §4",
        "Fashion-MNIST",
        "Rank correlation of our accuracy % with P Table 1, CIFAR-10",
        "A small κ costs accuracy",
        "does not hold",
        "5 points with 10 trials in all, 2 of the points by refinement.",
        "training.<wbr>learning_<wbr>rate = 0.1",
        "123,456",
        "The images are few.",
    ):
        assert part in whole, part
    assert "The command below goes on with" not in whole
    assert whole.count("<svg viewBox") >= 9


def test_it_loads_nothing(whole):
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', whole) == []
    assert "default-src &#39;none&#39;" in whole
    assert whole.count("<script>") == 1


def test_nothing_in_it_is_invisible():
    row = make_row("a\u202eb\x1bc", [0.9, 0.91], failures={2: "No\x07 memory."})
    claim = {"text": "So\u2067 it\nis.", "measure": "test.accuracy", "rule": "best_among", "rows": [row.label]}
    written = {"title": "A\u202e study", "description": "One\u200f two.\n\n- three\n- four"}
    text = page.render_study(make_results([row], claims=[claim], columns=[ACCURACY], **written))
    assert not [letter for letter in text if letter in "\u202e\u2067\u200f\x1b\x07"]
    for part in (r"a\u202eb\x1bc", r"So\u2067 it is.", r"<p>One\u200f two.</p>", "<li>three</li>", r"No\x07 memory"):
        assert part in text


def test_no_identifier_comes_twice(whole):
    found = re.findall(r'\bid="([^"]+)"', whole)
    assert len(found) == len(set(found))


def test_the_same_results_give_the_same_bytes(tmp_path):
    results, paper = example()
    first = write_study_report(results, tmp_path / "one.html", paper).read_bytes()
    again, paper = example()
    elsewhere = dataclasses.replace(again, folder=tmp_path / "elsewhere")
    assert write_study_report(elsewhere, tmp_path / "two.html", paper).read_bytes() == first
    assert len(first) < page.MOST_BYTES


def test_an_unchanged_page_is_not_drawn_again(tmp_path, monkeypatch):
    drawn = []
    original = page.render_study
    monkeypatch.setattr(page, "render_study", lambda *given: drawn.append(1) or original(*given))
    results = make_results([make_row("a", [0.9, 0.91])], columns=[ACCURACY])
    path = tmp_path / "report.html"
    for _ in range(2):
        write_study_report(results, path)
    assert len(drawn) == 1
    more = make_results([make_row("a", [0.9, 0.91, 0.92])], columns=[ACCURACY])
    assert "0.92" in write_study_report(more, path).read_text()
    assert len(drawn) == 2
    path.write_text(path.read_text().replace("accuracy", "inaccuracy"))
    assert "inaccuracy" not in write_study_report(more, path).read_text()


def test_what_failed_and_what_waits_stands_above():
    results, paper = example(finished=False)
    text = page.render_study(results, paper)
    assert "1 trial failed" in text
    assert "<b>softmax</b>, seed 2: TrialError: The loss of epoch 2 is not finite" in text
    assert "1 row is not finished" in text
    assert "<b>2κ*</b>: Waits: κ* of the row &#39;softmax&#39; is not known yet." in text
    assert "20 of 21" in text


def test_a_study_of_which_nothing_has_run():
    results = make_results([make_row("a", missing=[0, 1]), make_row("b", waiting="a is not done.")])
    text = page.render_study(results)
    assert "No trial has finished." in text
    assert "2 trials without a result yet." in text
    assert "Not measured, or not defined for any of these heads." in text
    empty = page.render_study(make_results([make_row("a")]))
    assert "No trial has begun." in empty


def test_names_cannot_break_the_page():
    rows = [make_row('<script>alert("x")</script>', [0.9, 0.91]), make_row("a & b\x00", [0.8, 0.82])]
    text = page.render_study(make_results(rows, title="<b>bold</b>", description="<img src=x>"))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text


def test_many_rows_lose_their_pictures_before_their_table(monkeypatch):
    results, paper = example()
    whole = len(page.render_study(results, paper).encode())
    # What the page is without its curves, and without any picture.
    monkeypatch.setattr(page, "MOST_BYTES", whole - 1)
    text = page.render_study(results, paper)
    assert "The curves through the epochs were left out" in text
    assert 'id="figures"' in text
    monkeypatch.setattr(page, "MOST_BYTES", 60_000)
    text = page.render_study(results, paper)
    assert "So many rows leave no room for pictures." in text
    assert 'id="table"' in text
    assert len(text.encode()) < 60_000
    monkeypatch.setattr(page, "MOST_BYTES", 10_000)
    with pytest.raises(RecordError, match="Expected a report below 10,000 bytes. Got more, of 8 rows"):
        page.render_study(results, paper)


def test_no_torch_is_needed():
    code = (
        "import sys, logitlab.report.study as study\n"
        "assert study.study_table and study.verdicts and study.study_markdown and study.write_study_report\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'matplotlib', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_states():
    done = make_results([make_row("a", [0.9, 0.91])])
    assert study_state(done).word == "done"
    failed = make_results([make_row("a", [0.9], failures={1: "No memory."}), make_row("b", blocked="Nothing to take.")])
    found = study_state(failed)
    assert (found.word, found.failures) == ("done, with failures", (("a", 1, "No memory."),))
    assert found.unfinished == (("b", "Blocked: Nothing to take."),)
    assert study_state(make_results([make_row("a", [0.9], missing=[1])])).word == "not finished"


def test_the_scale_is_said_plainly():
    paper = {"table": "w-table-1", "title": "W Table 1", "setting": "ImageNet"}
    row = make_row("a", [0.9, 0.91])
    small = make_results([row], scale="small", paper=paper)
    assert scale_text(small) == (
        "Scale small, which is not the paper's setting. Here: digits, small_cnn, 2 seeds. W Table 1: ImageNet."
    )
    assert "Meant to be the paper's setting" in scale_text(make_results([row], scale="paper", paper=paper))
    assert scale_text(make_results([row])) == "Ran on: digits, small_cnn, 2 seeds."
    assert study_command(make_results([row])) == "logitlab study run made-up"
    away = make_results([row], data={"name": "/home/somebody/images/birds"})
    assert setting_text(away).startswith("birds, ")


def test_a_search_tells_what_was_tried_and_taken():
    (found,) = searches(example()[0])
    assert found.label == "softmax"
    assert [(point.settings["training.learning_rate"], point.part, point.chosen) for point in found.points] == [
        (0.01, "coarse", False),
        (0.0316227766, "refinement", False),
        (0.1, "coarse", True),
        (0.316227766, "refinement", False),
        (1.0, "coarse", False),
    ]
    assert [(point.seeds, point.tried) for point in found.points] == [(2, 2)] * 4 + [(1, 2)]
    assert "edge" not in found.words


def searched(chosen, values=(0.1, 1.0), **axis):
    config = {"parameters": {"head.kappa": {"values": [0.1, 1.0], **axis}}, "seeds": 1}
    row = make_row("a", [0.9, 0.91], chosen=chosen)
    results = make_results([row], heads=[{"head": "a", "search": config}])
    trials = [
        PlannedTrial(identity=identity_of(value), row="a", seed=1000, role="search", settings={"head.kappa": value})
        for value in values
    ]
    plan = results.plan.model_copy(update={"trials": tuple(trials)})
    measured = {trial.identity: {"validation.accuracy": 0.5} for trial in trials}
    (found,) = searches(dataclasses.replace(results, plan=plan, searched=measured))
    return found


def test_a_choice_on_the_edge_is_said():
    assert (
        "The chosen head.kappa = 10 lies on the edge of what was tried."
        in searched({"head.kappa": 10.0}, (0.1, 1.0, 10.0)).words
    )
    assert searched({"head.kappa": 10.0}, (0.1, 1.0, 10.0)).points[-1].part == "expansion"
    assert "edge" not in searched({"head.kappa": 0.1}, low=0.1).words
    assert "Nothing is chosen yet." in searched({}).words


def test_optuna_has_no_grid():
    search = {"method": "optuna", "parameters": {"head.kappa": {"values": [0.1, 1.0]}}, "trials": 7}
    assert SearchConfig.model_validate(search).method == "optuna"
    row = make_row("a", [0.9, 0.91])
    results = make_results([row], search=search)
    trial = PlannedTrial(identity=identity_of("o"), row="a", seed=1000, role="search", settings={"head.kappa": 0.37})
    plan = results.plan.model_copy(update={"trials": (trial,)})
    (found,) = searches(dataclasses.replace(results, plan=plan))
    assert (found.method, found.points[0].part, found.points[0].estimate) == (
        "Optuna's TPE sampler, 7 points, 5 seeds a point",
        "",
        None,
    )


COLUMN = ColumnConfig(measure="test.accuracy", title="accuracy %", factor=100, decimals=1)


def test_lines_along_an_axis():
    lines = [
        AxisLine(1, "cosine", (AxisPoint(10.0, [0.91, 0.93]), AxisPoint(1.0, [0.8, None]))),
        AxisLine(0, "softmax <1>", (AxisPoint(None, [0.9, 0.9]),)),
        AxisLine(3, "2κ*", (AxisPoint(6.0, [0.94]),), chosen=True),
    ]
    panel = axis_lines("lines", COLUMN, lines, "head.kappa", logarithmic=True)
    label = re.search(r'aria-label="([^"]*)"', panel.svg)[1]
    assert label == ("accuracy % along head.kappa. cosine: 80.0 at 1, 92.0 at 10; softmax <1&gt;: 90.0; 2κ*: 94.0 at 6")
    # Three seeds on the axis, two at one place: dots beside the marks of the means.
    assert panel.svg.count('class="series-1"') == 3
    for name in ("softmax &lt;1&gt;", "2κ* (6)", "cosine"):
        assert f">{name}</text>" in panel.svg
    assert "Dashed: rows without a place" in panel.words
    assert "Ringed" in panel.words


def test_lines_without_anything_on_the_axis():
    panel = axis_lines("lines", COLUMN, [AxisLine(0, "softmax", (AxisPoint(None, [0.9]),))], "head.kappa")
    assert (panel.svg, panel.words) == (None, "No finished row has this measure and a number for head.kappa.")
    below = axis_lines("l", COLUMN, [AxisLine(0, "a", (AxisPoint(0.0, [0.9]),))], "head.m", logarithmic=True)
    assert below.svg is None


def test_labels_are_moved_apart_and_stay_inside():
    found = lines_module.spread([5, 6, 7, 99], 14, 100)
    assert all(second - first >= 14 for first, second in pairwise(found))
    assert found[-1] <= 100


def test_a_scatter_names_every_row():
    marks = [Mark(place, f"row {place}", Estimate(1.0, 0.1), Estimate(2.0, None)) for place in range(9)]
    panel = row_scatter("s", "title", marks, "across", "upwards")
    texts = re.findall(r"<text([^>]*)>(row \d)</text>", panel.svg)
    # Nine rows at one place, and still no label where another one is.
    assert len(texts) == len({place for place, _ in texts}) == 9
    assert row_scatter("s", "title", [], "x", "y").words == "No finished row has both numbers."


def test_a_figure_that_asks_for_what_is_not_there():
    figures = [{"title": "F", "kind": "dots", "measures": ["test.acuracy"], "rows": ["b"]}]
    text = page.render_study(make_results([make_row("a", [0.9, 0.91])], figures=figures))
    assert "There is no row &#39;b&#39;" in text
    assert "No trial has measured &#39;test.acuracy&#39;; did you mean &#39;test.accuracy&#39;?" in text


def test_a_little_markdown():
    assert str(to_html("# Head\ntext\n\n1. one\n   more\n2. two")) == (
        "<h4>Head</h4><p>text</p>\n<ul><li>one more</li><li>two</li></ul>"
    )
    assert "<b>" not in to_html("2 ** 3 ** 4, `**a**`, κ* and τ*")
    assert "<i>" not in to_html("κ* is best where τ* is")
    assert "<code>**a**</code>" in to_html("`**a**`")
    table = str(to_html("| a | b |\n|---|:-:|\n| `1` | <2> |"))
    assert '<td class="text"><code>1</code></td><td class="text">&lt;2&gt;</td>' in table
