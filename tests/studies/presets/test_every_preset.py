"""Every preset: it is read at each scale, runs whole at `tiny`, and at the paper's scales builds and takes a step."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import torch

from logitlab import studies
from logitlab.config.specification import parse_specification
from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import scales_of
from logitlab.config.study.rows import unfold
from logitlab.config.training import TrainingConfig
from logitlab.heads import Classifier, create_head
from logitlab.models import create_backbone
from logitlab.models.backbone import Backbone
from logitlab.records.papers import list_paper_tables, read_paper_table
from logitlab.report.study import verdicts
from logitlab.studies.engine.making import TrialMaker
from logitlab.studies.presets import list_presets, preset_path
from logitlab.studies.study_source import define, study_file
from logitlab.training import create_optimizer

SCALES = [(name, scale) for name in list_presets() for scale in scales_of(preset_path(name), study_file)]
AT_PAPER = [(name, scale) for name, scale in SCALES if scale.startswith("paper")]

#: Channels, side and number of classes, of the data sets of the papers' own settings.
SHAPES = {
    "caltech256": (3, 224, 257),
    "cifar10": (3, 32, 10),
    "cifar100": (3, 32, 100),
    "food101": (3, 224, 101),
    "imagenet": (3, 224, 1000),
    "mnist": (1, 28, 10),
    "sun397": (3, 224, 397),
}

# What the issue names; a preset that is lost is missed.
NEEDED = {
    *(f"w-table-{table}" for table in ("1", "2", "3", "4", "5", "6", "b1", "b2", "c1", "c2", "c3", "e1")),
    *(f"w-figure-{figure}" for figure in ("1", "2", "3", "4", "5", "d1", "d2", "d3", "e1", "e2", "e3")),
    *(f"t-table-{table}" for table in ("1", "2", "3", "4a")),
    *(f"t-figure-{figure}" for figure in ("1", "2", "3", "4")),
    *("ts-figure-5", "ts-table-9", "ts-table-10", "ts-table-11", "g-table-b2", "l-mnist", "l-cifar100"),
}


def test_no_preset_lacks() -> None:
    assert set(list_presets()) >= NEEDED


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_it_is_read_at_every_scale(name: str, scale: str) -> None:
    definition = define(name, scale)
    assert (definition.name, definition.scale) == (name, scale)
    assert definition.title
    assert definition.source
    assert definition.description
    rows = unfold(definition.heads, definition.grid, definition.seeds, definition.search)
    assert len({row.label for row in rows}) == len(rows)
    for claim in definition.claims:
        assert re.match(r"(W|T|TS|G|L)\b", claim.source), claim.source
    if definition.paper is not None:
        assert definition.paper.table in list_paper_tables()
        table = read_paper_table(definition.paper.table)
        assert set(definition.paper.columns) <= set(table.columns)
        # Columns and claims speak of columns that the paper has.
        named = {column.paper for column in definition.columns} | {claim.paper for claim in definition.claims}
        assert named - {None} <= set(table.columns)


@pytest.mark.parametrize("name", list_presets())
def test_it_has_the_three_scales(name: str) -> None:
    scales = scales_of(preset_path(name), study_file)
    assert {"tiny", "small"} <= set(scales)
    assert any(scale.startswith("paper") for scale in scales)
    assert scales[0] == "small"


@pytest.mark.slow
@pytest.mark.parametrize("name", list_presets())
def test_it_runs_whole_at_tiny(name: str, shared_runs: Path) -> None:
    told: list[str] = []
    # No data set lies there: what is embedded must do.
    where = {"out": shared_runs, "data_root": shared_runs, "device": "cpu"}
    outcome = studies.run(name, scale="tiny", executor="serial", progress=_Told(told), **where)
    assert outcome.failed == ()
    assert told == []
    results = outcome.results
    assert all(row.seeds and not row.missing and not row.failures for row in results.rows)
    for column in results.definition.columns:
        values = [value for row in results.rows for value in row.values(column.measure).values()]
        assert any(value is not None for value in values), f"nothing in the column {column.title}"
    for verdict in verdicts(results):
        assert "Cannot be asked of this study" not in verdict.evidence, str(verdict)
    asked = results.definition.analysis
    assert (results.analysis is not None) == (asked is not None), results.analysis_fault
    if results.analysis is not None:
        assert results.analysis.failures == ()
    assert outcome.report is not None
    page = outcome.report.read_text(encoding="utf-8")
    assert "There is no" not in page
    for figure in results.definition.figures:
        assert figure.title.replace("&", "&amp;") in page


class _Told(studies.Silent):
    """Keeps what a user would be told beside the results."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def notice(self, text: str) -> None:
        # That a model is being measured, or has been, is no remark; nor that another process tests the same trials.
        if not re.search(r": (measuring|measured on .*)\.$|running already", text):
            self.told.append(text)


@cache
def _backbone(text: str, channels: int, side: int, zero_init_last: bool) -> Backbone:
    written = parse_specification(text, "backbone")
    return create_backbone(
        written.name,
        channels=channels,
        image_size=side,
        parameters=written.parameters,
        zero_init_last=zero_init_last,
    )


# Whole steps through a network are slow; a head of one name takes one through each network, and the others a step on
# features of its shape.
_STEPPED: set[tuple[str, int, str]] = set()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), AT_PAPER)
def test_it_builds_and_takes_a_step_at_the_scale_of_the_paper(name: str, scale: str) -> None:
    definition = define(name, scale)
    maker = TrialMaker(definition, None)
    for row in unfold(definition.heads, definition.grid, definition.seeds, definition.search):
        # What other rows or a search will give stands at its first value, or at 2 · 5.
        axes = {**row.axes, **dict.fromkeys(row.entry.depends_on, 2 * 5.0)}
        if row.search is not None:
            axes |= {axis: parameter.values[0] for axis, parameter in row.search.parameters.items()}
        head, recipe = maker.head(row, axes), maker.recipe(row, axes)
        text = str(axes.get("backbone", definition.backbone))
        parameters = {key.removeprefix("backbone."): value for key, value in axes.items() if key[:9] == "backbone."}
        channels, side, classes = _shape(str(axes.get("data", definition.data.name)), definition)
        if parameters:
            written = ",".join(f"{key}={value}" for key, value in parameters.items())
            text = f"{text}{',' if ':' in text else ':'}{written}"
        network = _backbone(text, channels, side, recipe.zero_init_last)
        made = create_head(head.name, network.num_features, classes, **head.parameters)
        whole = (text, side, head.name) not in _STEPPED
        _STEPPED.add((text, side, head.name))
        _step(network if whole else torch.nn.Identity(), made, recipe, (channels, side, classes), network.num_features)


def _shape(data: str, definition: StudyDefinition) -> tuple[int, int, int]:
    name, _, classes = data.partition(":classes=")
    channels, side, count = SHAPES[name.lower()]
    if classes:
        first, last = map(int, classes.split("-"))
        assert last < count
        count = last - first + 1
    return channels, definition.data.image_size or side, count


def _step(
    network: torch.nn.Module, head: torch.nn.Module, recipe: TrainingConfig, shape: tuple[int, int, int], features: int
) -> None:
    channels, side, classes = shape
    torch.manual_seed(0)
    model = Classifier(network, head).train()
    images = torch.randn(2, features) if isinstance(network, torch.nn.Identity) else torch.rand(2, channels, side, side)
    optimizer = create_optimizer(model, recipe)
    before = head.weight.detach().clone()
    loss = model(images, torch.randint(0, classes, (2,)))
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert torch.isfinite(head.weight).all()
    assert not torch.equal(head.weight.detach(), before)


def test_the_step_of_a_test_is_one() -> None:
    """A head whose loss does not hang on its weight is found out."""

    class Deaf(torch.nn.Module):
        num_classes = 3

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(3, 4))

        def forward(self, features: torch.Tensor, target: torch.Tensor | None = None) -> torch.Tensor:
            return (features.sum() * 0 + self.weight.sum() * 0).requires_grad_()

    recipe = TrainingConfig(weight_decay=0.0)
    with pytest.raises(AssertionError):
        _step(torch.nn.Identity(), Deaf(), recipe, (1, 2, 3), 4)
