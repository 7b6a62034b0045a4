"""The guide of studies names every key and command, and its YAML can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from logitlab.cli.study import app
from logitlab.config import study
from logitlab.config.study.extending import EXTENDS
from logitlab.config.study.reading import DEFAULT_SCALE, SCALES, parse_study
from logitlab.config.validation import Configuration
from logitlab.studies.export import STUDY_FORMATS
from logitlab.studies.study_source import study_file
from logitlab.training.stages.options import OPTIONS

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "studies.md").read_text(encoding="utf-8")

#: Headings of the tables' first columns.
TABLES: dict[type[Configuration], str] = {
    study.StudyDefinition: "### The study\n",
    study.EntryConfig: "### An entry of `heads`\n",
    study.DependenceConfig: "### `depends_on`\n",
    study.SearchConfig: "| `method` |",
    study.SearchAxisConfig: "| key of an axis |",
    study.ColumnConfig: "| key of a column |",
    study.PaperConfig: "| key of `paper` |",
    study.FigureConfig: "| key of a figure |",
    study.ClaimConfig: "### `claims`\n",
    study.AnalysisConfig: "### `analysis`\n",
    study.ExecutionConfig: "### `execution`\n",
    study.SlurmConfig: "| key of `slurm` |",
}


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.__name__)
def test_every_key_has_its_row(kind: type[Configuration]) -> None:
    after = PAGE[PAGE.index(TABLES[kind]) :]
    table = re.search(r"(^\|.*\n)+", after, re.MULTILINE)
    assert table is not None
    named = re.findall(r"^\| `(\w+)` \|", table.group(0), re.MULTILINE)
    further = [SCALES, DEFAULT_SCALE, EXTENDS] if kind is study.StudyDefinition else []
    assert sorted(named) == sorted([*kind.model_fields, *further])


def test_every_stage_has_its_options() -> None:
    for name, kind in OPTIONS.items():
        row = re.search(rf"^\| `{name}` \| (.*?) \|", PAGE, re.MULTILINE)
        assert row is not None, name
        assert row.group(1) == ", ".join(f"`{option}`" for option in kind.model_fields)


def test_every_command_format_rule_and_executor_is_named() -> None:
    for command in app.registered_commands:
        assert f"`study {command.name}" in PAGE
    for name in STUDY_FORMATS:
        assert f"`{name}`" in PAGE
    rules = study.ClaimConfig.model_fields["rule"].annotation
    for name in (*rules.__args__, *study.EXECUTORS):  # type: ignore[union-attr]
        assert f"`{name}`" in PAGE


def test_its_studies_can_be_read() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    first, second, extending = (parse_study(block, "page.yaml", find=study_file) for block in blocks)
    assert (len(extending.heads), extending.scale, extending.data.train_limit) == (9, "small", 5000)
    assert (len(first.heads), first.seeds) == (3, 3)
    assert len(blocks[0].splitlines()) == 10
    assert (second.folder_name, second.seeds) == ("kappa-and-rate-quick", 2)
