"""W's Tables 5 and 6, Figures 1 to 5, D.1 to D.3 and E.1 to E.3: numbers and settings typed from the paper."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import isclose
from pathlib import Path
from typing import Any

import pytest
import torch
from preset_rows import rows_of

from logitlab import studies
from logitlab.config.specification import parse_specification
from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import scales_of
from logitlab.config.trial import DataConfig
from logitlab.data.subsets import base_name
from logitlab.evaluation.layers import find_layers
from logitlab.models import create_backbone
from logitlab.records.papers import read_paper_table
from logitlab.report.study import verdicts
from logitlab.studies.components import Shape
from logitlab.studies.engine.making import Images, TrialMaker
from logitlab.studies.presets import preset_path
from logitlab.studies.study_source import define as read
from logitlab.studies.study_source import study_file
from logitlab.training.stages.options import LinearProbeOptions

SETS = ("Food", "CIFAR10", "CIFAR100", "Birdsnap", "SUN397", "Cars", "Pets", "Flowers", "IN(50k)")

# W Table 5; a star is what the paper prints bold.
TABLE_5 = """
    Softmax              | *74.6 *92.4 *76.9 *55.4 *62.0 *60.3 92.0 *94.0 *71.1
    Squared error        | 39.8 82.2 56.3 21.8 39.9 15.3 84.7 46.7 76.7
    Dropout              | 72.6 91.4 75.0 53.6 61.2 54.7 92.6 92.1 74.8
    Label smoothing      | 72.7 91.6 75.2 53.6 61.6 54.8 *92.9 91.9 74.5
    Extra final layer L² | 70.6 91.0 73.7 51.5 60.1 50.3 92.4 89.8 75.9
    Logit penalty        | 68.1 90.2 72.3 48.1 59.0 48.3 92.3 86.6 76.4
    Logit normalization  | 66.3 90.5 72.9 50.7 58.1 45.4 92.0 82.9 75.1
    Cosine softmax       | 62.0 89.9 71.3 45.4 55.0 36.7 91.1 75.3 *76.9
    Sigmoid              | 73.4 91.7 75.7 52.3 *62.0 56.1 92.5 92.9 74.3
"""

# W Table 6: temperature, ImageNet top-1 and R², then the sets.
TABLE_6 = """
    0.01 | 74.9 0.236 *73.4 *91.9 *76.5 *57.2 *60.5 *62.9 91.7 *93.6 *67.0
    0.02 | 77.0 0.358 72.1 91.8 76.2 56.5 60.4 58.5 92.2 91.2 70.8
    0.03 | 77.5 0.475 69.1 91.5 74.9 53.7 59.1 51.8 *92.3 87.4 74.3
    0.04 | *77.6 0.562 66.0 90.7 73.8 50.3 57.4 45.1 91.7 82.2 75.7
    0.05 | *77.6 0.634 62.8 90.4 72.2 47.6 55.4 38.6 91.0 78.3 76.4
    0.06 | 77.5 0.693 60.3 89.3 69.8 43.3 53.8 33.3 91.0 72.7 76.6
    0.07 | 77.5 0.738 57.1 88.7 68.6 39.6 51.4 29.1 90.2 67.9 76.8
    0.08 | *77.6 *0.770 53.7 87.7 66.5 35.5 49.4 25.7 89.3 63.2 *77.0
"""

OBJECTIVES = [line.split("|")[0].strip() for line in TABLE_5.strip().splitlines()]

# Figure → its measures, and the part of the images that the paper names; None where the measure has training images
# whatever the part (Figure 4, E.2, E.3: "ImageNet training set"). W's validation set is our test set.
FIGURES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "w-figure-1": (("agreement", "clustering"), "test"),
    "w-figure-2": (("sparsity_by_layer",), "test"),
    "w-figure-3": (("cka",), "test"),
    "w-figure-4": (("separation_by_layer",), None),
    "w-figure-d1": (("agreement",), "test"),
    "w-figure-d2": (("agreement",), "test"),
    "w-figure-d3": (("ensembles",), "test"),
    "w-figure-e1": (("hardness",), "test"),
    "w-figure-e2": (("spectra",), None),
    "w-figure-e3": (("densities",), None),
}
PRESETS = ("w-table-5", "w-table-6", "w-figure-5", *FIGURES)


@cache
def define(name: str, scale: str) -> StudyDefinition:
    return read(name, scale)


@cache
def list_scales(name: str) -> tuple[str, ...]:
    return scales_of(preset_path(name), study_file)


SCALES = [(name, scale) for name in PRESETS for scale in list_scales(name)]

SHAPES = {
    "digits": Shape(1, 8, 10),
    "fashion-mnist": Shape(1, 28, 10),
    "CIFAR10": Shape(3, 32, 10),
    "CIFAR100": Shape(3, 32, 100),
    "ImageNet": Shape(3, 224, 1000),
}


class Unseen(TrialMaker):
    """Makes trials of images that it need not load: all presets of a data set have the same."""

    def _load(self, source: DataConfig) -> Images:
        return Images(source, SHAPES[base_name(source.name)], source.name, "none")


def identities(name: str, scale: str) -> dict[str, list[str]]:
    """Row → identities of its trials."""
    definition = define(name, scale)
    maker = Unseen(definition, None)
    return {
        label: [maker.trial(row, seed).identity for seed in row.seeds]
        for label, row in rows_of(definition).items()
        if not row.entry.depends_on
    }


def probe_of(definition: StudyDefinition) -> LinearProbeOptions:
    (stage,) = definition.stages
    assert stage.name == "linear_probe"
    return LinearProbeOptions.model_validate(stage.options)


def cells(text: str) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    for line in text.strip().splitlines():
        row, numbers = line.split("|")
        yield row.strip(), [(number.lstrip("*"), number.startswith("*")) for number in numbers.split()]


@pytest.mark.parametrize(
    ("name", "columns", "text"),
    [
        ("w-table-5", SETS, TABLE_5),
        ("w-table-6", ("ImageNet top-1", "ImageNet R²", *SETS), TABLE_6),
        # W §3.2: "the least similar losses (softmax and squared error) disagreed on only 11.5% of examples".
        ("w-figure-d2", ("Softmax and squared error differ (%)",), "Softmax | 11.5\nSquared error | 11.5"),
    ],
)
def test_numbers_of_the_paper(name: str, columns: tuple[str, ...], text: str) -> None:
    table = read_paper_table(name)
    typed = dict(cells(text))
    assert table.columns == columns
    assert table.rows == tuple(typed)
    for row, numbers in typed.items():
        assert len(numbers) == len(columns)
        for column, (number, bold) in zip(columns, numbers):
            cell = table.cells[row, column]
            assert (cell.printed, cell.bold) == (number, bold), (row, column)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_scale_says_what_it_is(name: str, scale: str) -> None:
    definition = define(name, scale)
    number = name.split("-")[2]
    number = f"{number[0].upper()}.{number[1]}" if number[0] in "de" else number
    what = f"W {name.split('-')[1].capitalize()} {number}"
    assert definition.title.endswith(f"({what})")
    assert definition.source.startswith(what)
    line = next(line for line in definition.description.splitlines() if line.startswith(f"| `{scale}`"))
    assert str(definition.seeds) in line.rsplit("|", 2)[1]
    assert set(OBJECTIVES) <= rows_of(definition).keys() or name == "w-table-6"
    for claim in definition.claims:
        assert claim.source.startswith("W ")


def test_the_scales() -> None:
    assert set(list_scales("w-table-6")) == {"tiny", "small", "small-scaled-loss", "paper"}
    base = set(list_scales("w-objectives"))
    for name in FIGURES:
        assert set(list_scales(name)) == base
    for name in ("w-table-5", "w-figure-5"):
        assert set(list_scales(name)) == base | {"small-held-out"}


def test_table_6_at_small_is_measured_on_the_sweep_over_kappa() -> None:
    ours = identities("w-table-6", "small")
    for other in ("t-table-2", "t-sweep"):
        sweep = identities(other, "small")
        assert ours == {
            "τ = 0.1": sweep["κ = 10"],
            "τ = 0.05": sweep["κ = 20"],
            "τ = 0.0333": sweep["κ = 30"],
            "τ = 0.025": sweep["κ = 40"],
            "τ = 0.02": sweep["κ = 50"],
            "τ = 0.0167": sweep["κ = 60"],
        }
    assert all(len(set(trials)) == 3 for trials in ours.values())


def test_rows_of_table_6_at_small_stand_beside_the_same_temperature_of_the_paper() -> None:
    definition = define("w-table-6", "small")
    for label, row in rows_of(definition).items():
        tau = float(label.removeprefix("τ = "))
        assert isclose(tau * row.entry.parameters["kappa"], 1, abs_tol=0.005)
        assert row.entry.paper_row in (None, str(tau))
        assert (row.entry.paper_row is not None) == (tau in (0.02, 0.05))


def test_claims_of_table_6_turn_round_with_the_axis() -> None:
    """W speaks of low temperatures, which are high κ."""
    rules = {
        scale: {(claim.measure, claim.along): claim.rule for claim in define("w-table-6", scale).claims if claim.along}
        for scale in ("small", "small-scaled-loss", "paper")
    }
    for measure, lower in {
        "test.accuracy": "lower",
        "test.class_separation": "lower",
        "linear_probe.held_out.accuracy": "lower",
        "linear_probe.mnist.accuracy": "higher",
    }.items():
        up, down = ("increases", "decreases") if lower == "lower" else ("decreases", "increases")
        assert rules["small"][measure, "head.kappa"] == down
        assert rules["small-scaled-loss"][measure, "head.tau"] == up
        if "mnist" not in measure:
            assert rules["paper"][measure, "head.tau"] == up


@pytest.mark.parametrize(("name", "scale"), [each for each in SCALES if each[0] in ("w-table-5", "w-figure-5")])
def test_probes_follow_a2(name: str, scale: str) -> None:
    """W A.2: 45 values, chosen on images held out of the training set."""
    definition = define(name, scale)
    options = probe_of(definition)
    assert options.variant == "kornblith"
    own = definition.data.name
    # The original classifier is learned anew, beside the other tasks, from images that the training held out.
    assert options.held_out
    assert own not in options.data
    if scale == "paper":
        # 50,046 of ImageNet's 1,281,167 training images.
        assert round(definition.data.validation_fraction * 1_281_167) == 50_046
        # Table 5 but for Birdsnap.
        expected = (
            "food101",
            "cifar10",
            "cifar100",
            "sun397",
            "stanfordcars",
            "oxfordiiitpet",
            "flowers102",
        )
        assert tuple(each.lower() for each in options.data) == expected
        assert (options.train_limit, options.limit, options.tolerance) == (None, None, 1e-10)


def test_the_tasks_of_table_5_at_small() -> None:
    options = probe_of(define("w-table-5", "small"))
    assert set(options.data) == {"mnist", "notmnist", "gtsrb", "dtd"}
    assert (options.train_limit, options.limit, options.tolerance) == (2000, 2000, 1e-7)
    held_out = define("w-table-5", "small-held-out")
    assert held_out.data.name == "fashion-mnist:classes=0-6"
    assert probe_of(held_out).data[0] == "fashion-mnist:classes=7-9"


def test_softmax_is_claimed_to_transfer_best_wherever_the_paper_has_it_so() -> None:
    bold = {
        column
        for column, (_, is_bold) in zip(SETS, dict(cells(TABLE_5))["Softmax"])
        if is_bold and column not in ("Birdsnap", "IN(50k)")
    }
    definition = define("w-table-5", "paper")
    names = {column.measure: column.paper for column in definition.columns}
    highest = [claim for claim in definition.claims if claim.rule == "best_among" and claim.better == "higher"]
    assert {names[claim.measure] for claim in highest} == bold
    (worst,) = (claim for claim in definition.claims if claim.better == "lower")
    assert (names[worst.measure], worst.rows) == ("IN(50k)", ("Softmax",))


@pytest.mark.parametrize(
    ("name", "scale"), [each for each in SCALES if each[0] in FIGURES or each == ("w-table-5", "small")]
)
def test_models_are_those_of_the_nine_objectives(name: str, scale: str) -> None:
    if scale.startswith("paper"):
        # ResNet-50 is slow to build: what makes the trials stands in the definition.
        ours, base = define(name, scale), define("w-objectives", scale)
        for field in ("data", "backbone", "heads", "training", "seeds", "select_epoch"):
            assert getattr(ours, field) == getattr(base, field)
    else:
        assert identities(name, scale) == identities("w-objectives", scale)


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_figure_5_has_the_models_of_tables_5_and_6(scale: str) -> None:
    ours, table_5 = identities("w-figure-5", scale), identities("w-table-5", scale)
    temperatures = {label: trials for label, trials in ours.items() if label.startswith("τ")}
    assert ours == {**table_5, **temperatures}
    if scale == "small":
        assert temperatures == identities("w-table-6", scale)


def test_figure_5_at_the_papers_scale_has_the_temperatures_of_table_6() -> None:
    ours, table_6 = define("w-figure-5", "paper"), define("w-table-6", "paper")
    mine, theirs = rows_of(ours), rows_of(table_6)
    labels = [label for label in mine if label.startswith("τ")]
    assert labels == list(theirs)
    one, other = TrialMaker(ours, None), TrialMaker(table_6, None)
    for label in labels:
        assert mine[label].entry.parameters == theirs[label].entry.parameters
        assert one.recipe(mine[label], mine[label].axes) == other.recipe(theirs[label], theirs[label].axes)
    assert ours.stages == define("w-table-5", "paper").stages


@pytest.mark.parametrize(("name", "scale"), [each for each in SCALES if each[0] in FIGURES])
def test_what_the_figures_measure(name: str, scale: str) -> None:
    definition = define(name, scale)
    measures, part = FIGURES[name]
    asked = definition.analysis
    assert asked is not None
    assert asked.measures == measures
    assert asked.part == (part or "test")
    assert asked.control is (name == "w-figure-3")
    for stage in definition.stages:
        assert (stage.name, tuple(stage.options["measures"])) == ("analyse", measures)
        assert stage.options.get("part", "test") == "test"
    if scale.startswith("paper"):
        # W E.3: "10,000 training set examples"; elsewhere all images.
        assert asked.limit == (10_000 if name == "w-figure-e3" else None)
        assert {stage.options.get("limit") for stage in definition.stages} <= {asked.limit}


@cache
def layers_of(backbone: str, shape: Shape) -> tuple[str, ...]:
    network = parse_specification(backbone, "backbone")
    side = min(shape.image_size, 64)
    built = create_backbone(network.name, channels=shape.channels, image_size=side, parameters=network.parameters)
    return tuple(find_layers(built, torch.rand(2, shape.channels, side, side)))


@pytest.mark.parametrize(("name", "scale"), [each for each in SCALES if each[0] in ("w-figure-2", "w-figure-4")])
def test_layers_that_are_spoken_of_are_there(name: str, scale: str) -> None:
    definition = define(name, scale)
    layers = layers_of(definition.backbone, SHAPES[definition.data.name])
    measure = FIGURES[name][0][0]
    keys = [column.measure for column in definition.columns]
    keys += [key for claim in definition.claims for key in (claim.measure, claim.than_measure) if key]
    keys += [key for figure in definition.figures for key in figure.measures]
    named = {key.removeprefix(f"analyse.{measure}.layers.") for key in keys if key.startswith("analyse.")}
    assert named <= {*layers, "features"}
    for claim in definition.claims:
        if claim.than_measure is not None:
            # Zeros become more with depth.
            order = [key.removeprefix(f"analyse.{measure}.layers.") for key in (claim.than_measure, claim.measure)]
            assert layers.index(order[0]) < layers.index(order[1])
    if name == "w-figure-2" and scale != "paper-cifar100":
        assert layers[-1] in named
    if name == "w-figure-4":
        before = layers[-1] if scale == "paper-cifar100" else layers[-2]
        assert named == {before, "features"}


# What stands in the page of each, and how its claims must end where ours is no question of chance.
PAGES: dict[str, tuple[str, ...]] = {
    "w-figure-1": ("Do they make the same mistakes?",),
    "w-figure-2": ("Where do the classes come apart?",),
    "w-figure-3": ("How alike are the layers?",),
    "w-figure-4": ("Where do the classes come apart?",),
    "w-figure-d1": ("Do they make the same mistakes?",),
    "w-figure-d2": ("Do they make the same mistakes?",),
    "w-figure-d3": ("Do they help each other?",),
    "w-figure-e1": ("How hard are the images?",),
    "w-figure-e2": ("How many directions are used?",),
    "w-figure-e3": ("Are images of a class close to each other?",),
    "w-table-5": ("W Table 5",),
    "w-table-6": ("W Table 6",),
    "w-figure-5": ("b: average transfer and relearned weights, by temperature",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_it_runs_at_tiny(name: str, shared_runs: Path) -> None:
    outcome = studies.run(name, scale="tiny", executor="serial", out=shared_runs, device="cpu", report=True)
    assert outcome.failed == ()
    results = outcome.results
    assert all(len(row.seeds) == 2 and not row.missing for row in results.rows)
    for column in results.definition.columns:
        filled = {row.label for row in results.rows if any(v is not None for v in row.values(column.measure).values())}
        assert filled == {row.label for row in results.rows}, column.title
    decided = verdicts(results)
    assert len(decided) == len(results.definition.claims)
    for verdict in decided:
        assert "Cannot be asked" not in verdict.evidence, str(verdict)
    assert outcome.report is not None
    page = outcome.report.read_text(encoding="utf-8")
    for heading in PAGES[name]:
        assert heading in page
    if name in FIGURES:
        check_analysis(name, results.analysis)


def check_analysis(name: str, analysis: Any) -> None:
    measures, part = FIGURES[name]
    assert analysis is not None
    assert analysis.failures == ()
    assert len(analysis.models) == 18
    assert {*analysis.measures, *analysis.between} == set(measures)
    for found in analysis.measures.values():
        assert {entry["split"] for entry in found.values()} == {part or "train"}
    if part == "test":
        assert analysis.data.part == "test"
    if name == "w-figure-d2":
        votes = next(each for each in analysis.between["agreement"] if each["kind"].endswith("ensembles"))
        assert votes["names"] == OBJECTIVES


@pytest.mark.slow
def test_what_claims_of_figures_rest_on(shared_runs: Path) -> None:
    """A mean of a table, worked out once more from the matrix in its page."""
    results = studies.run(
        "w-figure-d2", scale="tiny", executor="serial", out=shared_runs, device="cpu", report=False
    ).results
    assert results.analysis is not None
    votes = next(each for each in results.analysis.between["agreement"] if each["kind"].endswith("ensembles"))
    for row, line in zip(results.rows, votes["value"]):
        # A row has one ensemble: it stands at its first model.
        (found,) = set(row.values("analysis.agreement.ensembles").values()) - {None}
        assert found == pytest.approx((sum(line) - 1) / (len(line) - 1))
