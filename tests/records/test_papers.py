"""The papers' tables against numbers that were typed from the papers a second time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.records.papers import HEADER, list_paper_tables, read_paper_table

LINE = ",".join(HEADER) + "\n"


def column(name: str, column: str) -> list[float]:
    table = read_paper_table(name)
    return [table.cells[row, column].value for row in table.rows if (row, column) in table.cells]


def bold(name: str, column: str) -> set[str]:
    table = read_paper_table(name)
    return {row for row, other in table.cells if other == column and table.cells[row, other].bold}


def test_the_tables_of_the_presets_are_there() -> None:
    expected = [
        *("g-table-b2", "l-mnist", "t-figure-4", "t-table-1", "t-table-2", "t-table-3", "t-table-4a", "ts-figure-5"),
        *(f"ts-table-{number}" for number in (10, 11, 12, 13, 14, 15, 9)),
        "w-figure-d2",
        *(f"w-table-{name}" for name in ("1", "2", "3", "4", "5", "6", "b1", "b2", "c1", "c2", "c3", "e1")),
    ]
    assert list_paper_tables() == expected


def test_w_table_1() -> None:
    table = read_paper_table("w-table-1")
    assert table.name == "w-table-1"
    assert table.rows == (
        "Softmax",
        "Squared error",
        "Dropout",
        "Label smoothing",
        "Extra final layer L²",
        "Logit penalty",
        "Logit normalization",
        "Cosine softmax",
        "Sigmoid",
    )
    assert table.columns == (
        *("ImageNet top-1", "ImageNet top-5", "CIFAR-10", "CIFAR-100"),
        *("ImageNet NLL", "ImageNet ECE", "ImageNet NLL, scaled", "ImageNet ECE, scaled"),
        "ImageNet R²",
    )
    # Nine rows of Tables 1 and 4; Table 3 leaves squared error out, which defines no probabilities.
    assert len(table.cells) == 9 * 4 + 8 * 4 + 9
    assert not any(row == "Squared error" and ("NLL" in other or "ECE" in other) for row, other in table.cells)
    sums = {"ImageNet top-1": 698.3, "ImageNet top-5": 842.28, "CIFAR-10": 842.78, "CIFAR-100": 718.0}
    sums |= {"ImageNet NLL": 7.737, "ImageNet ECE": 0.513, "ImageNet R²": 4.8319}
    sums |= {"ImageNet NLL, scaled": 7.424, "ImageNet ECE, scaled": 0.306}
    for name, expected in sums.items():
        assert sum(column("w-table-1", name)) == pytest.approx(expected, abs=1e-6), name


def test_single_cells_of_w_table_1() -> None:
    cells = read_paper_table("w-table-1").cells
    logit_penalty = cells["Logit penalty", "CIFAR-10"]
    assert (logit_penalty.value, logit_penalty.error, logit_penalty.bold) == (93.84, 0.04, True)
    assert logit_penalty.printed == "93.84 ± 0.04"
    assert logit_penalty.table == "W Table 1"
    assert cells["Softmax", "ImageNet top-1"].printed == "77.0 ± 0.06"
    assert cells["Logit normalization", "CIFAR-100"].printed == "78.9 ± 0.05"
    assert cells["Dropout", "ImageNet top-5"].printed == "93.62 ± 0.02"
    assert cells["Label smoothing", "ImageNet ECE"].printed == "0.016 ± 0.0007"
    assert cells["Label smoothing", "ImageNet ECE"].table == "W Table 3"
    assert cells["Cosine softmax", "ImageNet NLL, scaled"].printed == "0.895 ± 0.002"
    assert cells["Squared error", "ImageNet R²"].printed == "0.8452 ± 0.0002"
    assert cells["Squared error", "ImageNet R²"].table == "W Table 4"


def test_bold_numbers_of_w_table_1_are_those_of_the_paper() -> None:
    assert bold("w-table-1", "ImageNet top-1") == {"Logit normalization", "Cosine softmax", "Sigmoid"}
    assert bold("w-table-1", "ImageNet top-5") == {"Logit penalty", "Cosine softmax"}
    assert bold("w-table-1", "CIFAR-10") == {"Label smoothing", "Logit penalty", "Sigmoid"}
    assert bold("w-table-1", "CIFAR-100") == {"Extra final layer L²", "Logit penalty", "Cosine softmax"}
    assert bold("w-table-1", "ImageNet NLL") == bold("w-table-1", "ImageNet NLL, scaled") == {"Cosine softmax"}
    assert bold("w-table-1", "ImageNet ECE") == {"Label smoothing"}
    assert bold("w-table-1", "ImageNet ECE, scaled") == {"Sigmoid"}
    assert bold("w-table-1", "ImageNet R²") == set()


def test_w_table_6() -> None:
    table = read_paper_table("w-table-6")
    assert table.rows == tuple(f"0.0{digit}" for digit in range(1, 9))
    assert len(table.columns) == 11
    assert len(table.cells) == 88
    assert all(cell.error is None for cell in table.cells.values())
    assert column("w-table-6", "ImageNet R²") == [0.236, 0.358, 0.475, 0.562, 0.634, 0.693, 0.738, 0.770]
    assert column("w-table-6", "IN(50k)") == [67.0, 70.8, 74.3, 75.7, 76.4, 76.6, 76.8, 77.0]
    sums = {"ImageNet top-1": 617.2, "Food": 514.5, "CIFAR10": 722.0, "CIFAR100": 578.5, "Birdsnap": 383.7}
    sums |= {"SUN397": 447.4, "Cars": 345.0, "Pets": 729.4, "Flowers": 636.5}
    for name, expected in sums.items():
        assert sum(column("w-table-6", name)) == pytest.approx(expected, abs=1e-6), name
    assert bold("w-table-6", "ImageNet top-1") == {"0.04", "0.05", "0.08"}
    assert bold("w-table-6", "Pets") == {"0.03"}
    assert bold("w-table-6", "ImageNet R²") == {"0.08"}
    # As printed: the lowest number of its column is bold too.
    assert bold("w-table-6", "IN(50k)") == {"0.01", "0.08"}
    for name in ("Food", "CIFAR10", "CIFAR100", "Birdsnap", "SUN397", "Cars", "Flowers"):
        assert bold("w-table-6", name) == {"0.01"}


def test_t_table_2() -> None:
    table = read_paper_table("t-table-2")
    kappas = tuple(f"κ = {kappa}" for kappa in (1, 5, 10, 20, 30, 40, 50, 60))
    assert table.rows == ("softmax", "LS", *kappas, "κ = 2κ*")
    sets = ("Cifar-10", "Cifar-100", "Food-101", "ImageNet")
    assert table.columns == (*sets, *(f"{name} κ*" for name in sets))
    assert len(table.cells) == 11 * 4 + 4
    assert not any(cell.bold or cell.error is not None for cell in table.cells.values())
    assert [table.cells["LS", f"{name} κ*"].printed for name in sets] == ["5.39", "11.17", "8.30", "12.83"]
    assert table.cells["κ = 1", "Cifar-100"].value == 23.07
    assert table.cells["κ = 40", "Cifar-10"].value == 95.85
    assert table.cells["κ = 2κ*", "ImageNet"].value == 77.81
    sums = {"Cifar-10": 1042.08, "Cifar-100": 808.53, "Food-101": 860.28, "ImageNet": 782.84}
    for name, expected in sums.items():
        assert sum(column("t-table-2", name)) == pytest.approx(expected, abs=1e-6), name


def test_a_table_of_a_users_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    # As Excel writes it: a byte order mark, and Windows' ends of lines.
    path.write_text("\ufeff" + LINE + 'M,"a, b",top,1e2,0.5,true\nM,c,top,-3.50,,\n', encoding="utf-8", newline="\r\n")
    table = read_paper_table(path)
    assert (table.name, table.rows, table.columns) == ("mine", ("a, b", "c"), ("top",))
    assert table.cells["a, b", "top"].printed == "1e2 ± 0.5"
    assert table.cells["a, b", "top"].value == 100
    assert table.cells["c", "top"].printed == "-3.50"
    assert table.cells["c", "top"].error is None
    assert not table.cells["c", "top"].bold


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Unknown table 'w-tabel-1'; did you mean 'w-table-1'.*path of a CSV"):
        read_paper_table("w-tabel-1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Cannot read '.*gone\.csv': No such file"):
        read_paper_table(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row,value\na,1\n", "must begin with the line 'table,row,column,value,error,bold'. Got 'row,value'"),
        ("", "Got 'an empty file'"),
        (LINE, "holds no numbers"),
        (LINE + "M,a,b,1\n", r"mine\.csv:2: Expected 6 values .* Got 4"),
        (LINE + "M,a,b,abc,,\n", r"mine\.csv:2: 'value' must be a number. Got 'abc'"),
        (LINE + "M,a,b,nan,,\n", "'value' must be a number. Got 'nan'"),
        (LINE + "M,a,b,1e999,,\n", "'value' must be a number. Got '1e999'"),
        (LINE + "M,a,b,1,x,\n", "'error' must be a number. Got 'x'"),
        (LINE + "M,a,b,1,-1,\n", "'error' must be at least 0. Got '-1'"),
        (LINE + "M,a,b,1,,yes\n", "'bold' must be true, false or empty. Got 'yes'"),
        (LINE + "M,,b,1,,\n", "'row' is empty"),
        (LINE + "M,a,,1,,\n", "'column' is empty"),
        (LINE + "M,a,b,1,,\nM,a,b,2,,\n", r"mine\.csv:3: 'a', 'b' is given twice"),
        (LINE + 'M,"a,b,1,,\n', "is no CSV in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read_paper_table(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(LINE.encode() + b"M,\xff,b,1,,\n")
    with pytest.raises(ConfigurationError, match="is no CSV in UTF-8"):
        read_paper_table(path)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(LINE + "M,a,b,x,y,z\nM,a\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_paper_table(path)
    assert len(caught.value.faults) == 4


def test_tables_are_read_without_torch() -> None:
    code = (
        "import sys; from logitlab.records.papers import read_paper_table; read_paper_table('w-table-1'); "
        "raise SystemExit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
