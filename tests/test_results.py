"""The results in docs: they are what the records say, and each row leads to its code and its equation."""

from __future__ import annotations

import importlib.util
import json
import re
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from logitlab.config.study.reading import scales_of
from logitlab.config.study.rows import unfold
from logitlab.records import Store
from logitlab.records.study import list_studies
from logitlab.report.study import study_markdown, verdicts
from logitlab.studies import gather_results
from logitlab.studies.presets import list_presets, preset_path
from logitlab.studies.study_source import define, study_file

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "docs" / "results"


def load(name: str) -> ModuleType:
    """A script of docs/results as a module."""
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, RESULTS / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        specification.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="module")
def archive() -> ModuleType:
    return load("archive")


@pytest.fixture(scope="module")
def trails() -> ModuleType:
    return load("trails")


@pytest.fixture(scope="module")
def kept(archive: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as a folder of trials."""
    root = tmp_path_factory.mktemp("results")
    archive.unpack(root)
    return root


def measures_of(definition: Any) -> set[str]:
    named = {column.measure for column in definition.columns}
    named |= {claim.measure for claim in definition.claims}
    return named | {claim.than_measure for claim in definition.claims if claim.than_measure}


# What is counted, and follows no formula.
COUNTED = {"selected_epoch", "parameters", "seconds"}


@pytest.mark.parametrize("name", list_presets())
def test_every_measure_of_a_preset_leads_to_its_code_and_to_a_paper(trails: ModuleType, name: str) -> None:
    for scale in scales_of(preset_path(name), study_file):
        for measure in measures_of(define(name, scale)) - COUNTED:
            trail = trails.measure_trail(measure)
            lines = (REPOSITORY / trail.file).read_text(encoding="utf-8").splitlines()
            assert re.search(rf"(def|class) {trail.name}\b", lines[trail.line - 1])
            assert re.search(r"\b(W|T|TS|L|G) |\b\d{4}\b", trail.source), f"{measure}: {trail}"


@pytest.mark.parametrize("name", list_presets())
def test_every_row_of_a_preset_leads_to_its_head_and_to_its_equation(trails: ModuleType, name: str) -> None:
    definition = define(name, "small")
    for row in unfold(definition.heads, definition.grid, definition.seeds, definition.search):
        # What another row gives stands at some number.
        given = {**row.axes, **dict.fromkeys(row.entry.depends_on, 10.0)}
        own = {axis.removeprefix("head."): value for axis, value in given.items() if axis.startswith("head.")}
        head, source, classes = trails.head_trails(row.entry.head, {**row.entry.parameters, **own})
        page = (REPOSITORY / "docs" / "heads" / f"{head}.md").read_text(encoding="utf-8")
        assert source in page
        # The equation itself stands there.
        assert "$$" in page
        assert classes
        for trail in classes:
            lines = (REPOSITORY / trail.file).read_text(encoding="utf-8").splitlines()
            assert f"class {trail.name}" in lines[trail.line - 1]


def test_a_measure_that_nobody_knows_is_told(trails: ModuleType) -> None:
    with pytest.raises(KeyError, match=r"No function is named for the measure 'tset.accuracy'"):
        trails.measure_trail("tset.accuracy")


# What the issue of the papers' tables asks for at the scale `small`.
NEEDED = {
    *(f"w-table-{table}-small" for table in ("1", "3", "4", "6", "e1")),
    *(f"w-figure-{figure}-small" for figure in "123"),
    *(f"t-table-{table}-small" for table in ("1", "2", "3", "4a")),
    *(f"t-figure-{figure}-small" for figure in "134"),
}


def test_the_records_of_every_study_are_whole(kept: Path) -> None:
    assert set(list_studies(kept)) >= NEEDED
    store = Store(kept)
    for name in list_studies(kept):
        results = gather_results(kept, name)
        # What was run is what the preset says; how it speaks of it may change.
        words = {"title", "description", "source"}
        preset = define(results.definition.name, "small")
        assert results.definition.model_dump(exclude=words) == preset.model_dump(exclude=words)
        for row in results.rows:
            assert len(row.seeds) >= 3, f"{name}, {row.label}"
            assert not row.missing
            assert not row.failures
        assert all(store.is_done(planned.identity) for planned in results.plan.trials)
        assert (results.analysis is not None) == (results.definition.analysis is not None)
        assert all(record["result"]["images"]["train"] == 10_000 for record in results.records.values())


def test_the_pages_and_the_list_of_claims_are_what_the_records_say(kept: Path) -> None:
    index = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    for name in list_studies(kept):
        results = gather_results(kept, name)
        page = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(study_markdown(results))
        assert (RESULTS / f"{name}.webp").is_file()
        found = verdicts(results)
        section = index[index.index(f"results/{name}.md") :].split("\n## ")[0]
        assert re.findall(r"\*\*(holds|does not|not decided at this scale)\*\*", section) == [
            each.verdict for each in found
        ]
        assert f"logitlab study run {results.definition.name} --scale small" in index


def records_of(kept: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """Row → results of its trials, read as plain JSON."""
    plan = json.loads((kept / "studies" / name / "plan.json").read_text(encoding="utf-8"))
    found: dict[str, list[dict[str, Any]]] = {}
    for trial in plan["trials"]:
        record = json.loads((kept / "trials" / trial["identity"] / "record.json").read_text(encoding="utf-8"))
        found.setdefault(trial["row"], []).append(record["result"])
    return found


def test_the_numbers_of_a_page_are_worked_out_once_more(kept: Path) -> None:
    """Means and errors by `statistics`, ρ and p by SciPy, the paper's numbers typed here: nothing of LogitLab's."""
    from scipy.stats import spearmanr, ttest_rel

    found = records_of(kept, "t-table-2-small")
    rows = {row: [each["test"]["accuracy"] for each in results] for row, results in found.items()}
    page = (RESULTS / "t-table-2-small.md").read_text(encoding="utf-8").replace("\\*", "*").replace("**", "")
    for row, values in rows.items():
        error = statistics.stdev(values) / len(values) ** 0.5
        line = next(line for line in page.splitlines() if line.startswith(f"| {row} |"))
        assert line.split(" | ")[1] == f"{100 * statistics.fmean(values):.2f} ± {100 * error:.2f}"
    # T Table 2, Cifar-10.
    paper = {"softmax": 95.56, "LS": 95.49, "κ = 1": 86.19, "κ = 5": 95.39, "κ = 10": 95.57, "κ = 20": 95.64}
    paper |= {"κ = 30": 95.67, "κ = 40": 95.85, "κ = 50": 95.57, "κ = 60": 95.61, "κ = 2κ*": 95.54}
    rho = spearmanr([statistics.fmean(rows[row]) for row in paper], list(paper.values())).statistic
    lines = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8").splitlines()
    claim = next(line for line in lines if "the paper's order of accuracy (Cifar-10). (T Table 2)" in line)
    assert f"ρ = {rho:+.2f}" in claim
    # And a difference with its p.
    claim = next(line for line in lines if "(κ = 1 classifies worse than LS)" in line)
    difference = statistics.fmean(rows["κ = 1"]) - statistics.fmean(rows["LS"])
    assert f"κ = 1 minus LS: {100 * difference:+.3f}" in claim
    assert "**holds**" in claim
    assert ttest_rel(rows["κ = 1"], rows["LS"]).pvalue < 1e-4


def test_every_link_of_the_results_leads_somewhere() -> None:
    for page in [REPOSITORY / "docs" / "results.md", *RESULTS.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_an_archive_is_packed_alike_twice_and_read_back(archive: ModuleType, kept: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tar.xz", tmp_path / "second.tar.xz"
    count = archive.pack(kept, ["t-table-1-small"], first)
    assert archive.pack(kept, ["t-table-1-small"], second) == count
    assert first.read_bytes() == second.read_bytes()
    # Another study goes beside it; what both share is kept once.
    more = archive.pack(kept, ["t-figure-1-small"], first)
    assert count < more < 2 * count
    archive.unpack(tmp_path / "back", first)
    assert list_studies(tmp_path / "back") == ["t-figure-1-small", "t-table-1-small"]
    one, other = (gather_results(root, "t-table-1-small") for root in (kept, tmp_path / "back"))
    assert study_markdown(one) == study_markdown(other)
