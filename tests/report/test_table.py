"""The table: what it says, what it marks, and how it looks."""

import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from logitlab.config.errors import ParameterError
from logitlab.report import COLUMNS, ComparisonTable, comparison_table
from logitlab.report.columns import decimals_for, write_estimate
from logitlab.statistics import Estimate


@pytest.fixture
def records(make: SimpleNamespace) -> list[dict[str, Any]]:
    return [
        *make.head("softmax", accuracy=[0.97, 0.96, 0.98], nll=[0.10, 0.11, 0.12], miss_ap=[0.99, None, 0.98]),
        *make.head("cosine", {"kappa": 20}, accuracy=[0.90, 0.91, 0.92], nll=[0.30, 0.31, 0.32], kappa=[20.0] * 3),
        *make.head("squared_error", accuracy=[0.96, 0.97, 0.97], nll=[None] * 3, ece=[None] * 3),
    ]


def cells(table: ComparisonTable, key: str) -> dict[str, Any]:
    index = [column.key for column in table.columns].index(key)
    return {row.label: row.cells[index] for row in table.rows}


def test_means_and_errors(records: list[dict[str, Any]]) -> None:
    found = cells(comparison_table(records), "accuracy")
    assert found["softmax"].estimate.mean == pytest.approx(0.97)
    assert found["softmax"].estimate.error == pytest.approx(0.01 / 3**0.5)
    assert cells(comparison_table(records), "seconds")["softmax"].estimate == (10.0, 0.0)


def test_marks_what_is_not_significantly_different_from_the_best(records: list[dict[str, Any]]) -> None:
    table = comparison_table(records)
    # t-tests by SciPy: .9667 against .97 gives p = .64, .91 against .97 p = .0018.
    assert {k: c.marked for k, c in cells(table, "accuracy").items()} == {
        "softmax": True,
        "cosine:kappa=20": False,
        "squared_error": True,
    }
    assert {k: c.marked for k, c in cells(table, "nll").items()} == {
        "softmax": True,
        "cosine:kappa=20": False,
        "squared_error": False,
    }


def test_lower_is_better_for_nll_and_ece_alone() -> None:
    assert {column.key: column.higher_is_better for column in COLUMNS} == {
        "accuracy": True,
        "nll": False,
        "ece": False,
        "class_separation": None,
        "miss_ap": True,
        "ood_ap": True,
        "kappa": None,
        "kappa_star": None,
        "seconds": None,
    }


def test_columns_without_a_better_end_are_never_marked(make: SimpleNamespace) -> None:
    records = [
        *make.head("a", class_separation=[0.1, 0.2], kappa=[1, 2], kappa_star=[3, 4]),
        *make.head("b", class_separation=[0.9, 0.8], kappa=[8, 9], kappa_star=[8, 9]),
    ]
    table = comparison_table(records)
    for key in ("class_separation", "kappa", "kappa_star", "seconds"):
        assert not any(cell.marked for cell in cells(table, key).values())


def test_options_reach_the_test_and_the_legend(make: SimpleNamespace) -> None:
    records = [*make.head("a", accuracy=[0.5, 0.6, 0.7]), *make.head("b", accuracy=[0.65, 0.8, 0.9])]
    assert all(cell.marked for cell in cells(comparison_table(records), "accuracy").values())
    strict = comparison_table(records, level=0.5, test="welch", correction="holm")
    assert [cell.marked for cell in cells(strict, "accuracy").values()] == [False, True]
    assert "(p > 0.5, Welch's t-test, Holm-corrected)" in strict.to_text()
    assert "(p > 0.05, pooled t-test, uncorrected)" in comparison_table(records).to_text()
    with pytest.raises(ParameterError, match="'level'"):
        comparison_table(records, level=0)


def test_plain_text(records: list[dict[str, Any]]) -> None:
    assert comparison_table(records).to_text().splitlines()[:7] == [
        "head             accuracy % ↑           NLL ↓           ECE ↓              R²       MISS AP ↑"
        "              κ            κ*      seconds",
        "-" * 135,
        "softmax          97.00 ± 0.58*  0.110 ± 0.006*  0.020 ± 0.000*  0.500 ± 0.000   0.985 ± 0.005*"
        "      –          4.50 ± 0.00   10.0 ± 0.0",
        "cosine:kappa=20  91.00 ± 0.58   0.310 ± 0.006   0.020 ± 0.000*  0.500 ± 0.000   0.950 ± 0.000"
        "   20.00 ± 0.00   4.50 ± 0.00   10.0 ± 0.0",
        "squared_error    96.67 ± 0.33*      –               –           0.500 ± 0.000   0.950 ± 0.000"
        "       –          4.50 ± 0.00   10.0 ± 0.0",
        "-" * 135,
        "Mean ± standard error over 3 seeds. *: not significantly different from the best of the column "
        "(p > 0.05, pooled t-test, uncorrected).",
    ]


def test_text_is_what_str_gives_and_ends_no_line_with_blanks(records: list[dict[str, Any]]) -> None:
    table = comparison_table(records)
    assert str(table) == table.to_text()
    assert all(line == line.rstrip() for line in table.to_text().splitlines())


def test_measures_that_lack_seeds_are_named(records: list[dict[str, Any]]) -> None:
    assert comparison_table(records).notes == ("MISS AP of softmax: over 2 of 3 seeds, else undefined.",)


def test_failures_are_named_and_their_seeds_counted(make: SimpleNamespace) -> None:
    records = [make.record("softmax", 0), make.record("softmax", 1), make.failure("cosine", 0, "It diverged.")]
    table = comparison_table(records)
    assert table.notes == ("Failed: cosine, seed 0: It diverged.",)
    lines = table.to_text().splitlines()
    assert lines[0].split()[:2] == ["head", "seeds"]
    assert lines[2].split()[:2] == ["softmax", "2"]
    assert lines[3].split() == ["cosine", "0", *["–"] * 8]
    assert "over 2 seeds" in table.legend[0]
    assert "Nothing could be tested" in table.legend[0]
    assert plain(printed(table, 200)).splitlines()[3].split()[:2] == ["cosine", "0"]
    assert "| cosine | 0 |" in table.to_markdown()
    assert ">0</td>" in table.to_html()


def test_different_numbers_of_seeds(make: SimpleNamespace) -> None:
    records = [*make.head("a", accuracy=[0.5, 0.6, 0.7]), *make.head("b", accuracy=[0.5, 0.6])]
    assert "over the seeds of each head" in comparison_table(records).legend[0]


def test_one_seed_marks_nothing_and_says_so(make: SimpleNamespace) -> None:
    table = comparison_table([make.record("a", 0), make.record("b", 0, accuracy=0.1)])
    assert not any(cell.marked for row in table.rows for cell in row.cells)
    assert "One seed a head" in table.legend[0]
    assert "±" not in table.to_text()
    assert "accuracy" in table.to_text()


def test_no_trial_has_finished(make: SimpleNamespace) -> None:
    for table in (comparison_table([]), comparison_table([make.failure("softmax", 0)])):
        assert table.legend[0] == "No trial has finished."
        assert table.to_text().startswith("head")
        assert table.to_markdown().startswith("| head")
        assert "<table>" in table.to_html()
        Console(quiet=True).print(table)


def test_markdown(records: list[dict[str, Any]]) -> None:
    lines = comparison_table(records).to_markdown().splitlines()
    assert lines[0] == "| head | accuracy % ↑ | NLL ↓ | ECE ↓ | R² | MISS AP ↑ | κ | κ\\* | seconds |"
    assert lines[1].count("|") == lines[2].count("|") == lines[0].count("|")
    assert lines[2].startswith("| softmax | **97.00 ± 0.58** | **0.110 ± 0.006** |")
    assert lines[4].startswith("| squared\\_error | **96.67 ± 0.33** | – | – |")
    assert lines[5] == ""
    assert lines[6].startswith("- Mean ± standard error over 3 seeds. Bold: not significantly")


def test_markdown_escapes_what_would_break_the_table(make: SimpleNamespace) -> None:
    text = comparison_table([make.record("mine", 0, {"word": "a|b*<i>"})]).to_markdown()
    assert "| mine:word=a\\|b\\*\\<i> |" in text


class TableReader(HTMLParser):
    """Collects the cells of an HTML table, and which of them are bold."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.bold: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("th", "td", "b"):
            self.rows[-1].append(data)
        if "b" in self.open:
            self.bold.append(data)


def test_html_is_well_formed_and_holds_the_numbers(records: list[dict[str, Any]]) -> None:
    table = comparison_table(records)
    reader = TableReader()
    reader.feed(table._repr_html_())
    assert reader.open == []
    assert [len(row) for row in reader.rows] == [9] * 4
    assert reader.rows[1][:3] == ["softmax", "97.00 ± 0.58", "0.110 ± 0.006"]
    marked = sum(cell.marked for row in table.rows for cell in row.cells)
    assert len(reader.bold) == marked
    assert "96.67 ± 0.33" in reader.bold


def test_html_escapes_names(make: SimpleNamespace) -> None:
    html = comparison_table([make.record("mine", 0, {"word": "<script>"})]).to_html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def printed(table: ComparisonTable, width: int) -> str:
    console = Console(width=width, force_terminal=True, color_system="standard", legacy_windows=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_rich_sets_the_best_in_bold(records: list[dict[str, Any]]) -> None:
    text = printed(comparison_table(records), 200)
    assert "\x1b[1m96.67 ± 0.33\x1b[0m" in text
    assert "\x1b[1m91.00" not in text
    assert "Bold: not significantly different" in plain(text)
    row = next(line for line in plain(text).splitlines() if line.startswith("softmax"))
    assert row.split()[:4] == ["softmax", "97.00", "±", "0.58"]


def test_rich_puts_errors_below_their_means_on_a_narrow_terminal(records: list[dict[str, Any]]) -> None:
    lines = plain(printed(comparison_table(records), 80)).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("softmax"))
    assert lines[start].split()[:3] == ["softmax", "97.00", "0.110"]
    assert lines[start + 1].split()[:2] == ["±0.58", "±0.006"]
    assert lines[start + 2].startswith("cosine:")
    assert lines[start + 3].startswith("kappa=20")
    assert "…" not in "".join(lines)
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("width", [60, 40, 24])
def test_rich_leaves_columns_out_rather_than_names(records: list[dict[str, Any]], width: int) -> None:
    lines = plain(printed(comparison_table(records), width)).splitlines()
    row = next(line for line in lines if line.startswith("softmax"))
    assert "97.00" in row
    assert any(line.startswith("kappa=20") for line in lines)
    caption = re.search(r"No room for (.*?): widen", " ".join(" ".join(lines).split()))
    assert caption
    assert "seconds" in caption[1]
    assert all(len(line) <= width for line in lines)


def test_rich_without_a_width_keeps_one_line_a_row(records: list[dict[str, Any]]) -> None:
    built = comparison_table(records).to_rich()
    assert built.row_count == 3
    assert all("\n" not in str(cell) for column in built.columns for cell in column.cells)


def test_names_are_no_markup(make: SimpleNamespace) -> None:
    table = comparison_table([make.record("mine", 0, {"word": "[red]x[/red]"})])
    assert "[red]x[/red]" in printed(table, 200)
    assert "[red]" in printed(comparison_table([make.failure("mine", 0, "[red]broken[/red]")]), 200)


def test_decimals_follow_the_median_error() -> None:
    column = COLUMNS[1]
    assert column.decimals == 3
    for error, expected in [(0.004, 3), (0.0005, 3), (0.00049, 4), (4e-5, 5), (1e-9, 5), (0.0, 3), (None, 3)]:
        assert decimals_for(column, [Estimate(1.0, error)]) == expected
    errors = [1e-6, 0.01, 0.02]
    assert statistics.median(errors) == 0.01
    assert decimals_for(column, [Estimate(1.0, error) for error in errors]) == 3
    assert decimals_for(column, []) == 3


def test_numbers_in_the_unit_of_their_column() -> None:
    assert write_estimate(COLUMNS[0], Estimate(0.123456, 0.01)) == ("12.35", "1.00")
    assert write_estimate(COLUMNS[0], Estimate(1.0, None)) == ("100.00", "")
    assert write_estimate(COLUMNS[0], Estimate(0.5, 0.0), 1) == ("50.0", "0.0")


def test_import_needs_no_torch() -> None:
    code = "import sys, logitlab.report; print('torch' in sys.modules, 'rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
