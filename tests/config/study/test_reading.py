"""YAML of a study: what may be written short, scales, and every fault at once with its line."""

import re
from pathlib import Path

import pytest

from logitlab.config.errors import ConfigurationError
from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import parse_study, read_study, scales_of, written
from logitlab.config.study.rows import unfold

GOOD = """\
title: A study
data: digits
backbone: mlp
training: {epochs: 2, learning_rate: 1e-3}
seeds: [3, 5]
heads:
  - softmax
  - head: cosine
    label: "κ = {head.kappa:g}"
    grid: {head.kappa: [5, 10]}
stages: [analyse, {ood: {sets: [noise]}}]
search: {parameters: {training.learning_rate: [0.01, 0.1]}}
"""


def faults_of(text: str, **options: object) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        parse_study(text, "my.yaml", **options)
    return list(caught.value.faults)


def test_short_forms_are_written_out() -> None:
    found = parse_study(GOOD, "my.yaml")
    assert found.name == "my"
    assert found.data.name == "digits"
    assert [entry.head for entry in found.heads] == ["softmax", "cosine"]
    assert [(stage.name, stage.options) for stage in found.stages] == [("analyse", {}), ("ood", {"sets": ["noise"]})]
    assert found.search is not None
    assert found.search.parameters["training.learning_rate"].values == (0.01, 0.1)
    # PyYAML would read a text here.
    assert found.training.learning_rate == 1e-3
    assert found.seeds == (3, 5)


def test_a_definition_survives_json() -> None:
    found = parse_study(GOOD, "my.yaml")
    assert StudyDefinition.model_validate(found.model_dump(mode="json")) == found
    assert read_study(found.model_dump(mode="json")) == found


def test_scales_are_merged_deeply(tmp_path: Path) -> None:
    text = (
        GOOD + "default_scale: small\nscales:\n  tiny: {seeds: 1, training: {epochs: 1}}\n  small: {heads: [sigmoid]}\n"
    )
    path = tmp_path / "w table.yaml"
    path.write_text(text, encoding="utf-8")
    tiny, small = read_study(path, scale="tiny"), read_study(path)
    assert (tiny.scale, tiny.seeds, tiny.training.epochs, tiny.training.learning_rate) == ("tiny", 1, 1, 1e-3)
    assert (tiny.name, tiny.folder_name) == ("w-table", "w-table-tiny")
    assert small.scale == "small"
    assert [entry.head for entry in small.heads] == ["sigmoid"]
    assert scales_of(path) == ("small", "tiny")
    assert faults_of(text, scale="tinny") == [
        "my.yaml:13: Unknown scale 'tinny'; did you mean 'tiny'? Known: small, tiny."
    ]


def test_a_fault_in_a_scale_has_the_line_of_the_scale() -> None:
    text = "heads: [softmax]\ntraining:\n  epochs: 3\nscales:\n  tiny:\n    training:\n      epochs: 0\n"
    (fault,) = faults_of(text, scale="tiny")
    assert fault == "my.yaml:7: 'training.epochs' must be greater than or equal to 1. Got 0."
    assert faults_of("heads: [softmax]\n", scale="tiny") == [
        "my.yaml: The study has no scales. Got 'tiny'; leave it out."
    ]


#: Kind of a fault → what is changed in a right study, and what must be said of it.
BROKEN = {
    "unknown option": ("titel: x\n", "Unknown option 'titel'; did you mean 'title'?"),
    "unknown option inside": ("execution: {worker: 2}\n", "Unknown option 'execution.worker'; did you mean 'workers'?"),
    "wrong type": ("select_epoch: 3\n", "'select_epoch' must be 'last' or 'best'. Got 3."),
    "wrong word": (
        "select_epoch: beste\n",
        "'select_epoch' must be 'last' or 'best'. Got 'beste'; did you mean 'best'?",
    ),
    "number as text": (
        "execution: {workers: '2'}\n",
        "'execution.workers' must be a number. Got the text '2'; write it",
    ),
    "number as text in a grid": (
        "grid: {head.alpha: ['1e-3']}\n",
        "'head.alpha' must be a number. Got the text '1e-3'",
    ),
    "empty grid": ("grid: {head.kappa: []}\n", "'grid.head.kappa' is empty; give at least 1."),
    "no axis": ("grid: {hed.kappa: [1]}\n", "'grid.hed.kappa' is no axis. Expected data, backbone, head.PARAMETER"),
    "unknown axis": ("grid: {training.epoch: [1]}\n", "Unknown axis 'training.epoch'; did you mean 'training.epochs'?"),
    "value of an axis": (
        "grid: {training.epochs: [1.5]}\n",
        "A value of the axis 'training.epochs' must be a valid integer",
    ),
    "value twice": (
        "grid: {head.alpha: [0.1, 1e-1]}\n",
        "The axis 'head.alpha' has the value 0.1 twice. Give it once.",
    ),
    "claim without what it needs": (
        "claims: [{text: t, rule: above, measure: test.accuracy}]\n",
        "claims[0]: a claim with the rule 'above' needs 'than'. Got none.",
    ),
    "claim of an unknown row": (
        "claims: [{text: t, rule: above, measure: test.accuracy, than: softmx}]\n",
        "Unknown row 'softmx'; did you mean 'softmax'?",
    ),
    "figure of an unknown row": (
        "figures: [{title: t, kind: dots, measures: [test.accuracy], rows: [κ = 6]}]\n",
        "Unknown row 'κ = 6'; did you mean 'κ = 5'?",
    ),
    "figure without an axis": ("figures: [{title: t, kind: lines, measures: [a]}]\n", "needs 'along'. Got none."),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_study_says_what_and_where(kind: str) -> None:
    addition, sentence = BROKEN[kind]
    (fault,) = faults_of(GOOD + addition)
    line, _, said = fault.partition(" ")
    # The addition stands below the twelve lines of the study.
    assert line == "my.yaml:13:"
    assert sentence in said


ENTRIES = {
    "unknown head option": ("{head: softmax, lable: x}", "Unknown option 'heads[0].lable'; did you mean 'label'?"),
    "no head": ("{label: x}", "'heads[0].head' is missing; give it a value."),
    "recipe": (
        "{head: softmax, training: {epoch: 3}}",
        "Unknown option 'heads[0].training.epoch'; did you mean 'epochs'?",
    ),
    "recipe out of range": (
        "{head: softmax, training: {epochs: 0}}",
        "'heads[0].training.epochs' must be greater than",
    ),
    "label": (
        "{head: cosine, label: 'κ {head.kapa}', grid: {head.kappa: [1, 2]}}",
        "The label 'κ {head.kapa}' names 'head.kapa', which is no axis of its grid; did you mean 'head.kappa'?",
    ),
    "braces": ("{head: cosine, label: 'κ {', grid: {head.kappa: [1, 2]}}", "The label 'κ {' cannot be filled in"),
    "seeds": (
        "{head: softmax, seeds: many}",
        "'heads[0].seeds' must be a number from 1 to 10,000, or a list of numbers",
    ),
    "dependence on nothing": (
        "{head: cosine, depends_on: {head.kappa: {of: LT, measure: validation.kappa_star}}}",
        "Unknown row 'LT'",
    ),
    "dependence on the test images": (
        "{head: cosine, depends_on: {head.kappa: {of: softmax, measure: test.kappa_star}}}",
        "'heads[0].depends_on.head.kappa.measure' must match pattern",
    ),
    "search that is not even": (
        "{head: softmax, search: {parameters: {training.learning_rate: [0.01, 0.1, 0.2]}}}",
        "the values of a search must be evenly spaced on their log scale",
    ),
    "two decays": (
        "{head: softmax, training: {weight_decay: 1e-4, scaled_weight_decay: 1e-5}}",
        "Give 'weight_decay' or 'scaled_weight_decay'",
    ),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_broken_entry_says_what_and_where(kind: str) -> None:
    entry, sentence = ENTRIES[kind]
    faults = faults_of(f"name: x\nheads:\n  - {entry}\n")
    assert any(fault.startswith("my.yaml:3: ") and sentence in fault for fault in faults), faults


def test_rows_that_wait_for_each_other_are_refused() -> None:
    entry = "{{head: cosine, label: {}, depends_on: {{head.kappa: {{of: {}, measure: validation.kappa_star}}}}}}"
    text = f"heads:\n  - {entry.format('A', 'B')}\n  - {entry.format('B', 'C')}\n  - {entry.format('C', 'A')}\n"
    assert faults_of(text) == [
        "my.yaml:2: These rows wait for each other: 'A' → 'B' → 'C' → 'A'. One of them must not depend on the others."
    ]
    alone = f"heads:\n  - {entry.format('A', 'A')}\n"
    assert "These rows wait for each other: 'A' → 'A'." in faults_of(alone)[0]


def test_two_rows_of_one_name_are_refused() -> None:
    (fault,) = faults_of("heads:\n  - softmax\n  - {head: sigmoid, label: softmax}\n")
    assert fault == "my.yaml:3: Two rows are called 'softmax'. Give labels that differ, or leave one out."


def test_all_faults_come_at_once() -> None:
    text = "".join(
        addition for addition, _ in BROKEN.values() if not addition.startswith(("grid", "exec", "sel", "cl", "fi"))
    )
    text += "grid: {hed.x: [1], head.kappa: [], training.epochs: [1, 1]}\nexecution: {executor: rai, workers: '2'}\n"
    text += (
        "claims: [{text: t, rule: abov, measure: a}]\nheads: [softmax, {head: a, label: softmax}, {hed: b}]\nseeds: x\n"
    )
    found = "\n".join(faults_of(text))
    expected = (
        "titel", "hed.x", "'grid.head.kappa' is empty", "has the value 1 twice", "did you mean 'ray'",
        "write it without",
        "did you mean 'above'", "Two rows are called", "heads[2].head", "'seeds' must be",
    )  # fmt: skip
    assert [word for word in expected if word not in found] == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("heads: [softmax\n", r"my.yaml:\d: This is no YAML: .*"),
        ("heads: [softmax]\nheads: [sigmoid]\n", r'my.yaml:2: The key "heads" is given twice. Give it once.'),
        ("- softmax\n", r"my.yaml: Expected keys and values, such as .* Got a list."),
        ("", r"my.yaml: Expected keys and values, such as .* Got nothing."),
        ("heads: [softmax]\ntitle: 2026-01-01\n", r"my.yaml:2: 'title' must be text, .* write text in quotes."),
        ("heads: [softmax]\n1: 2\n", r"my.yaml:2: Expected text as a key. Got 1; write it in quotes."),
    ],
)
def test_what_is_no_study_at_all(text: str, sentence: str) -> None:
    (fault,) = faults_of(text)
    assert re.fullmatch(sentence, fault), fault


@pytest.mark.parametrize("kind", [*BROKEN, *ENTRIES])
def test_what_is_left_of_a_broken_study_says_nothing_twice(kind: str, tmp_path: Path) -> None:
    from logitlab.studies import run

    good = GOOD.replace("analyse, ", "")
    alone = f"backbone: mlp\nheads:\n  - sigmoid\n  - {ENTRIES.get(kind, ('',))[0]}\n"
    text = good + BROKEN[kind][0] if kind in BROKEN else alone
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as read:
        read_study(tmp_path / "my.yaml")
    with pytest.raises(ConfigurationError) as ran:
        run(tmp_path / "my.yaml", executor="serial", out=tmp_path / "out")
    assert ran.value.faults == read.value.faults


def test_scales_are_called_so_that_they_can_name_a_folder() -> None:
    for name in ("a/b", "../../evil", ".."):
        faults = faults_of(f"heads: [softmax]\nscales: {{'{name}': {{seeds: 1}}}}\n", scale=name)
        assert faults == [f"my.yaml:2: A scale is called by letters, digits, '-', '_' and '.'. Got '{name}'."]
    assert faults_of("heads: [softmax]\nscales: {a: {}}\ndefault_scale: [a]\n") == [
        "my.yaml:3: 'default_scale' must name a scale. Got ['a']."
    ]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("{head: cosine, label: '{head.kappa:g}', grid: {head.kappa: [1, x]}}", "cannot be filled in"),
        ("{head: cosine, label: '{head.kappa:99999999999}', grid: {head.kappa: [1]}}", "cannot be filled in"),
        ("{head: cosine, grid: {head.kappa: [.inf, 1]}}", "'head.kappa' must be a finite number. Got inf."),
        ("{head: cosine, parameters: {kappa: .nan}}", "'kappa' must be a finite number. Got nan."),
        ("{head: softmax, seeds: 1000000000000}", "must be a number from 1 to 10,000"),
    ],
)
def test_values_that_would_break_what_comes_later(entry: str, sentence: str) -> None:
    assert any(sentence in fault for fault in faults_of(f"heads:\n  - {entry}\n"))


def test_braces_that_nobody_wrote_in_a_label_stay_as_they_are() -> None:
    found = parse_study(
        "heads: [{head: softmax, parameters: {kappa: {a: b}}, grid: {head.alpha: [0, 0.1]}}]\n", "my.yaml"
    )
    labels = [row.label for row in unfold(found.heads, found.grid, found.seeds, found.search)]
    assert labels == ["softmax:kappa={'a': 'b'} [alpha = 0]", "softmax:kappa={'a': 'b'} [alpha = 0.1]"]


def test_what_an_entry_says_of_an_axis_is_not_crossed_with_the_study() -> None:
    text = "grid: {training.epochs: [1, 2]}\nheads: [softmax, {head: cosine, grid: {training.epochs: [5]}}]\n"
    found = parse_study(text, "my.yaml")
    rows = unfold(found.heads, found.grid, found.seeds, found.search)
    assert [(row.label, row.axes["training.epochs"]) for row in rows] == [
        ("softmax [epochs = 1]", 1),
        ("cosine", 5),
        ("softmax [epochs = 2]", 2),
    ]


def test_aliases_of_aliases_are_refused() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for letter, before in zip("bcdefgh", "abcdefg"):
        text += f"{letter}: &{letter} [{', '.join(f'*{before}' for _ in range(10))}]\n"
    assert faults_of(text) == ["my.yaml: Expected at most 50,000 values. Got more, aliases included."]


def test_a_list_of_faulty_items_is_not_called_empty() -> None:
    faults = faults_of("heads: [{hed: softmax}]\n")
    assert not any("empty" in fault for fault in faults), faults


def test_a_study_may_be_called_in_any_script(tmp_path: Path) -> None:
    for name in ("名前", "_x"):
        (tmp_path / f"{name}.yaml").write_text("heads: [softmax]\n", encoding="utf-8")
        assert read_study(tmp_path / f"{name}.yaml").name == name


def test_the_papers_table_is_looked_for_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("heads: [softmax]\npaper: {table: p.csv, title: P}\n", encoding="utf-8")
    paper = read_study(tmp_path / "x.yaml").paper
    assert paper is not None
    assert paper.table == str(tmp_path / "p.csv")


def test_words_that_other_readers_take_for_values_stay_words() -> None:
    found = parse_study("title: no\nsource: 10:30\nheads: [softmax]\n", "my.yaml")
    assert (found.title, found.source) == ("no", "10:30")


def test_missing_files_and_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Cannot read '.*none.yaml': No such file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"title: caf\xe9\n")
    with pytest.raises(ConfigurationError, match="it is no text in UTF-8"):
        read_study(tmp_path / "latin.yaml")
    with pytest.raises(ConfigurationError, match="^'name' is missing; give it a value.$"):
        read_study({"heads": ["softmax"]})


def test_a_place_is_written_as_users_write_it() -> None:
    assert written(("heads", 2, "training", "epochs")) == "heads[2].training.epochs"
