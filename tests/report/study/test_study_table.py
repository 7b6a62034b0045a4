"""The table of a study: ours and the paper's in groups of their own, and what lacks."""

import io

import pytest
from fabricated_results import ACCURACY, NLL, example, make_paper, make_results, make_row

from logitlab.report.study import study_markdown, study_table

PAPER = {"table": "made-up-table", "title": "P Table 1", "setting": "ImageNet, 8 seeds", "columns": ["top-1"]}


@pytest.fixture
def rows():
    return [
        make_row("softmax", [0.9, 0.902, 0.901], nll=[0.3, 0.31, 0.32]),
        make_row("a_b", [0.95, 0.952, 0.951], nll=[None, None, None]),
        make_row("c|d", [0.9505, 0.953, 0.951], nll=[0.2, 0.2, 0.21]),
    ]


@pytest.fixture
def paper():
    return make_paper({"top-1": {"softmax": (77.0, 0.06, False), "a_b": (77.25, 0.04, True)}, "top-5": {"softmax": 93}})


def build(rows, paper=None, **definition):
    fields = {"columns": [{**ACCURACY, "paper": "top-1" if paper else None}, NLL], "scale": "small", **definition}
    return study_table(make_results(rows, **({"paper": PAPER} if paper else {}), **fields), paper)


def test_groups_never_mix(rows, paper):
    table = build(rows, paper)
    ours, theirs = table.groups
    assert ours.heading == "LogitLab: digits, small_cnn, scale small, 3 seeds"
    assert theirs.heading == "P Table 1: ImageNet, 8 seeds"
    assert [column.heading for column in ours.columns] == ["accuracy % ↑", "NLL ↓"]
    # The better end of the paper's column is that of ours beside it; only the columns asked for are there.
    assert [column.heading for column in theirs.columns] == ["top-1 ↑"]
    assert [cell.mean for cell in ours.columns[0].cells] == ["90.10", "95.10", "95.15"]
    assert [cell.error for cell in ours.columns[0].cells] == ["0.06", "0.06", "0.08"]
    assert [(cell.mean, cell.error) for cell in theirs.columns[0].cells] == [
        ("77.0", "0.06"),
        ("77.25", "0.04"),
        ("–", ""),
    ]


def test_bold_is_ours_by_the_test_and_the_papers_as_printed(rows, paper):
    ours, theirs = build(rows, paper).groups
    assert [cell.marked for cell in ours.columns[0].cells] == [False, True, True]
    assert [cell.marked for cell in ours.columns[1].cells] == [False, False, True]
    assert [cell.marked for cell in theirs.columns[0].cells] == [False, True, False]


def test_a_column_without_a_better_end_has_nothing_bold(rows):
    table = build(rows, columns=[{**ACCURACY, "better": None}])
    assert not any(cell.marked for cell in table.groups[0].columns[0].cells)
    assert table.groups[0].columns[0].heading == "accuracy %"


def test_rows_of_other_images_are_another_contest():
    rows = [
        make_row(f"{head}, {data}", [mean, mean + 0.001, mean - 0.001], settings={"data": data})
        for data, means in (("digits", (0.9, 0.8)), ("cifar10", (0.6, 0.5)))
        for head, mean in zip("ab", means)
    ]
    table = build(rows, grid={"data": ["digits", "cifar10"]})
    assert [cell.marked for cell in table.groups[0].columns[0].cells] == [True, False, True, False]
    assert "digits | cifar10" in table.groups[0].heading
    assert "on the same setting" in table.sentences("*")[0]


def test_rank_correlation_stands_below():
    rows = [make_row(f"row {place}", [place / 10, place / 10 + 0.002]) for place in range(5)]
    paper = make_paper({"top-1": {f"row {place}": float(place) for place in (0, 1, 2, 4, 3)}})
    table = build(rows, paper)
    (found,) = table.correlations
    assert (found.found.rho, found.found.n) == (1, 5)
    assert "Rank correlation of our accuracy % with P Table 1, top-1: ρ = +1.00, p = 0.017 (exact" in table.to_text()
    assert build(rows).correlations == ()


def test_a_rank_correlation_names_the_rows_that_are_not_whole():
    def of(*others):
        rows = [make_row(f"row {place}", [place / 10, place / 10 + 0.002]) for place in range(3)]
        paper = make_paper({"top-1": {f"row {place}": float(place) for place in range(6)}})
        (found,) = build([*rows, *others], paper).correlations
        return found

    assert str(of()).endswith("τ = +1.00.")
    found = of(
        make_row("row 3", [0.3], missing=[1]),
        make_row("row 4", [0.4, None]),
        make_row("row 5", failures={0: "No memory."}),
    )
    # The number stands; a row without any is no part of it.
    assert (found.found.rho, found.found.n) == (1, 5)
    assert str(found).endswith(
        "τ = +1.00. In it are rows that are not whole: row 3: seed 1 has no result yet; "
        "row 4: the measure is undefined for seed 1."
    )


def test_labels_stay_on_their_line_and_hide_nothing(paper):
    rows = [
        make_row("soft\nmax", [0.9, 0.91], failures={2: "No\nmemory\x1b."}),
        make_row("a\t b\u202ec", [0.8, 0.81]),
        make_row("\u2066d\x07", [0.7, 0.71]),
    ]
    columns = [{**ACCURACY, "title": "acc\n\u202eracy"}]
    config = {**PAPER, "title": "P\nTable\u200f", "setting": "I\tN"}
    shown = study_table(make_results(rows, columns=columns, paper=config), paper)
    texts = (shown.to_text(), shown.to_markdown(), shown.to_latex())
    for text in texts:
        assert "soft max" in text
        assert not [letter for letter in text if letter in "\t\u202e\u2066\u200f\x07\x1b"]
    assert r"a b\u202ec" in texts[0]
    assert "\n\\u2066d\\x07" in texts[0]
    assert r"a b\\u202ec" in texts[1]
    assert r"a b\textbackslash{}u202ec" in texts[2]
    assert shown.groups[0].columns[0].title == r"acc \u202eracy"
    assert shown.groups[1].heading == r"P Table\u200f: I N"
    whole = study_markdown(make_results(rows, columns=columns, title="A\u202e\nstudy"))
    assert whole.startswith("# A\\\\u202e study\n")
    assert "- soft max, seed 2: No memory\\\\x1b." in whole
    assert "\u202e" not in whole


def test_columns_of_a_comparison_where_none_are_asked_for(rows):
    rows[0] = make_row("softmax", [0.9, 0.91], nll=[0.3, 0.31], **{"ood.noise.max_logit_ap": [0.5, 0.6]})
    table = study_table(make_results(rows))
    assert [column.title for column in table.groups[0].columns] == ["accuracy %", "NLL", "OOD AP noise"]


def test_rows_that_lack_are_shown_with_a_note():
    rows = [
        make_row("softmax", [0.9, 0.91, 0.92]),
        make_row("failed", [0.8, 0.81], failures={2: "The loss is\nnot finite."}),
        make_row("waiting", waiting="κ* of softmax is not known yet."),
        make_row("blocked", blocked="No point of its search has finished."),
        make_row("running", [0.9], missing=[1, 2]),
        make_row("fewer", [0.9, 0.91]),
        make_row("partial", [0.9, None, 0.91]),
    ]
    table = build(rows, columns=[ACCURACY])
    assert table.seeds == ("3", "2 of 3", "0", "0", "1 of 3", "2", "3")
    assert len(table.labels) == len(table.states) == 7
    text = table.to_text()
    for line in (
        "failed: seed 2 failed (The loss is not finite).",
        "waiting: waits: κ* of softmax is not known yet.",
        "blocked: blocked: No point of its search has finished.",
        "running: seeds 1, 2 have no result yet.",
        "fewer: seeds 0, 1 alone; other rows have 3.",
        "accuracy % of partial: over 2 of 3 seeds, else undefined.",
    ):
        assert line in text
    assert [line.split("  |")[0].split()[-1] for line in text.splitlines() if line.startswith("row ")] == ["seeds"]


def test_one_seed_marks_nothing(rows):
    table = build([make_row("a", [0.9]), make_row("b", [0.8])], columns=[ACCURACY])
    assert [cell.marked for cell in table.groups[0].columns[0].cells] == [False, False]
    assert [cell.error for cell in table.groups[0].columns[0].cells] == ["", ""]
    assert "One seed a row" in table.to_text()


def test_nothing_has_run():
    table = build([make_row("a", missing=[0])])
    assert "No trial has finished." in table.to_text()
    assert "no seed yet" in table.groups[0].heading


def test_what_the_paper_does_not_have_is_said(rows, paper):
    rows.append(make_row("e", [0.9, 0.91], paper_row="nobody"))
    config = {**PAPER, "columns": ["top-1", "top 5"]}
    table = study_table(make_results(rows, columns=[ACCURACY], paper=config), paper)
    assert "The paper's table has no column 'top 5'; did you mean 'top-5'?" in table.notes
    assert "The paper's table has no row 'nobody', named for e." in table.notes
    unknown = make_results(rows, columns=[ACCURACY], paper={"table": "w-table-11", "title": "W"})
    found = study_table(unknown)
    assert len(found.groups) == 1
    assert "The paper's table cannot be shown: Unknown table 'w-table-11'; did you mean 'w-table-1'?" in found.notes[0]


def test_the_papers_table_is_found_by_its_name(rows):
    rows[0] = make_row("softmax", [0.9, 0.91], paper_row="Softmax")
    config = {"table": "w-table-1", "title": "W Table 1", "columns": ["CIFAR-10"]}
    table = study_table(make_results(rows, columns=[{**ACCURACY, "paper": "CIFAR-10"}], paper=config))
    assert table.groups[1].columns[0].cells[0].mean == "93.49"


def test_an_unknown_measure_is_said(rows):
    table = build(rows, columns=[{"measure": "test.acuracy", "title": "oops"}])
    assert "oops: no trial has measured 'test.acuracy'; did you mean 'test.accuracy'?" in " ".join(table.notes)


def test_markdown(rows, paper):
    lines = build(rows, paper).to_markdown().splitlines()
    assert lines[0] == "| row | accuracy % ↑ | NLL ↓ | P Table 1: top-1 ↑ |"
    assert lines[3] == r"| a\_b | **95.10 ± 0.06** | – | **77.25 ± 0.04** |"
    assert lines[4].startswith(r"| c\|d |")
    assert "- P Table 1: ImageNet, 8 seeds." in lines


def test_text_has_a_border_between_the_groups(rows, paper):
    lines = build(rows, paper).to_text().splitlines()
    body = [line for line in lines[:8] if not line.startswith("---")]
    assert len({line.rindex("|") for line in body}) == 1
    assert any("95.10 ± 0.06*" in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


def test_latex(rows, paper):
    text = build(rows, paper).to_latex("tab:x")
    assert r"\usepackage{booktabs}" in text
    assert r" & \multicolumn{2}{c}{LogitLab} & \multicolumn{1}{c}{P Table 1} \\" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in text
    assert r"a\_b & $\mathbf{95.10 \pm 0.06}$ & -- & $\mathbf{77.25 \pm 0.04}$ \\" in text
    assert r"\label{tab:x}" in text
    assert text.count("{tabular}") == 2


def test_rich_stacks_and_then_leaves_out(rows, paper):
    from rich.console import Console

    table = build(rows, paper)

    def shown(width):
        console = Console(width=width, file=io.StringIO(), force_terminal=False)
        console.print(table)
        return console.file.getvalue()

    assert "95.10 ± 0.06" in shown(120)
    assert "±0.06" in shown(44)
    narrow = shown(26)
    assert "No room for top-1" in narrow
    assert max(map(len, narrow.splitlines())) <= 26


def test_the_whole_as_markdown():
    results, paper = example(finished=False)
    text = study_markdown(results, paper)
    assert text == study_markdown(*example(finished=False))
    assert text.startswith("# Temperatures of cosine softmax, and the κ that least squares finds \\<T Table 2>\n")
    for part in (
        "Scale small, which is not the paper's setting.",
        "    logitlab study run t-table-2 --scale small\n",
        "State: not finished, 20 of 21 trials of the table, 9 of 10 of searches.",
        "- softmax, seed 2: TrialError: The loss",
        "| claim | here | evidence |",
        "| A small κ costs accuracy (T §4.1) | **not decided at this scale** |",
        "Rule: accuracy % of κ = 1 below that of softmax: paired t-tests",
    ):
        assert part in text
