"""A study that extends another: what is shared, what is replaced, and where faults are said to stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.config.study.reading import parse_study, read_study, scales_of
from logitlab.studies.catalogue import summarise
from logitlab.studies.study_source import define

BASE = """
title: The base
description: of all
heads: [softmax, cosine]
training: {epochs: 4, learning_rate: 0.2}
seeds: 5
scales:
  tiny: {seeds: 1, training: {epochs: 1}}
  large: {seeds: 9}
default_scale: large
"""

CHILD = """
extends: base
title: The child
training: {learning_rate: 0.5}
heads: [sigmoid]
scales:
  tiny: {seeds: 2}
  odd: {seeds: [7]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "child.yaml").write_text(CHILD)
    return tmp_path


def test_mappings_merge_and_lists_and_values_replace(folder: Path) -> None:
    child = read_study(folder / "child.yaml", scale="large")
    assert (child.name, child.title, child.description) == ("child", "The child", "of all")
    assert [head.head for head in child.heads] == ["sigmoid"]
    assert (child.training.epochs, child.training.learning_rate, child.seeds) == (4, 0.5, 9)


def test_scales_of_one_name_merge_and_others_come_along(folder: Path) -> None:
    assert scales_of(folder / "child.yaml") == ("large", "tiny", "odd")
    tiny, odd = (read_study(folder / "child.yaml", scale=scale) for scale in ("tiny", "odd"))
    assert (tiny.seeds, tiny.training.epochs, tiny.training.learning_rate) == (2, 1, 0.5)
    assert odd.seeds == (7,)
    assert tiny.folder_name == "child-tiny"
    assert list(summarise(folder / "child.yaml").scales) == ["large", "tiny", "odd"]


def test_studies_may_stand_on_each_other(folder: Path) -> None:
    (folder / "third.yaml").write_text("extends: ./child.yaml\nseeds: 1\nscales: {large: {training: {epochs: 2}}}\n")
    third = read_study(folder / "third.yaml")
    assert (third.title, third.training.epochs, third.training.learning_rate, third.seeds) == ("The child", 2, 0.5, 9)


def test_the_table_of_the_base_is_found_from_the_folder_of_the_base(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "base.yaml").write_text("heads: [softmax]\npaper: {table: mine.csv, title: Mine}\n")
    (tmp_path / "child.yaml").write_text("extends: below/base.yaml\nseeds: 1\n")
    paper = read_study(tmp_path / "child.yaml").paper
    assert paper is not None
    assert Path(paper.table) == (tmp_path / "below" / "mine.csv").resolve()


def test_a_preset_is_found_by_its_name_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: w-objectives\nseeds: 1\n")
    mine, base = define(str(tmp_path / "mine.yaml"), "tiny"), define("w-objectives", "tiny")
    assert mine.heads == base.heads
    assert mine.training == base.training
    assert define({"name": "x", "extends": "w-objectives"}, "tiny").heads == base.heads


def test_a_fault_stands_where_it_was_written(folder: Path) -> None:
    (folder / "base.yaml").write_text("heads: [softmax]\nseeds: 0\n")
    (folder / "child.yaml").write_text("extends: base\n\nepochs: 3\n")
    with pytest.raises(ConfigurationError) as caught:
        read_study(folder / "child.yaml")
    seeds, epochs = sorted(caught.value.faults)
    assert seeds.startswith("base.yaml:2: 'seeds' must be a number from 1 to")
    assert epochs.startswith("child.yaml:3: Unknown option 'epochs'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: bass\n", "my.yaml:1: There is no study 'bass' to extend."),
        ("extends: 3\n", "my.yaml:1: 'extends' must name a preset or a file. Got 3."),
        ("extends: [base]\n", "my.yaml:1: 'extends' must name a preset or a file. Got"),
        ("extends: .\n", "my.yaml:1: There is no study '.' to extend."),
        ("extends: /\n", "my.yaml:1: There is no study '/' to extend."),
        (f"extends: {'x' * 5000}\n", "my.yaml:1: There is no study 'xxx"),
        ("extend: base\nheads: [softmax]\n", "my.yaml:1: Unknown option 'extend'; did you mean 'extends'?"),
    ],
)
def test_what_cannot_be_extended_is_told(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        parse_study(text, "my.yaml")
    assert caught.value.faults[0].startswith(message)


def test_a_name_too_long_for_a_file_is_no_preset_either(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: {'x' * 5000}\n")
    with pytest.raises(ConfigurationError, match=r"^mine.yaml:1: Unknown study 'xxx"):
        define(str(tmp_path / "mine.yaml"))


def test_scales_can_be_taken_away(folder: Path) -> None:
    (folder / "base.yaml").write_text("heads: [softmax]\nscales: {tiny: {seeds: 1}}\ndefault_scale: tiny\n")
    (folder / "child.yaml").write_text("extends: base\nseeds: 7\nscales: null\n")
    found = read_study(folder / "child.yaml")
    assert (found.scale, found.seeds) == (None, 7)


@pytest.mark.parametrize("line", ["extends: base", "default_scale: tiny", "scales: {more: {}}"])
def test_a_scale_has_no_scales_and_extends_nothing(line: str, folder: Path) -> None:
    (folder / "child.yaml").write_text(f"heads: [softmax]\nscales:\n  tiny:\n    {line}\n    sedes: 1\n")
    with pytest.raises(ConfigurationError) as caught:
        read_study(folder / "child.yaml")
    key = line.partition(":")[0]
    assert sorted(caught.value.faults) == [
        f"child.yaml:4: '{key}' is no part of a scale. Write it at the top of the file, for all scales.",
        "child.yaml:5: Unknown option 'sedes'; did you mean 'seeds'?",
    ]


def test_an_unknown_preset_gets_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: w-objektives\n")
    with pytest.raises(
        ConfigurationError, match=r"mine.yaml:1: Unknown study 'w-objektives'; did you mean 'w-objectiv"
    ):
        define(str(tmp_path / "mine.yaml"))


def test_a_circle_is_told_and_ends(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b\n")
    (tmp_path / "b.yaml").write_text("extends: a\n")
    with pytest.raises(ConfigurationError, match=r"b.yaml:1: 'a' extends itself"):
        read_study(tmp_path / "a.yaml")


def test_a_long_chain_is_told(tmp_path: Path) -> None:
    for number in range(14):
        (tmp_path / f"s{number}.yaml").write_text(f"extends: s{number + 1}\n")
    with pytest.raises(ConfigurationError, match="Expected at most 10 studies one below the other"):
        read_study(tmp_path / "s0.yaml")


def test_a_file_of_the_name_of_a_preset_extends_the_preset(tmp_path: Path) -> None:
    (tmp_path / "w-objectives.yaml").write_text("extends: w-objectives\nseeds: 7\n")
    mine = define(str(tmp_path / "w-objectives.yaml"), "tiny")
    assert mine.heads == define("w-objectives", "tiny").heads
