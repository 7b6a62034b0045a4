"""The presets of G and L against the papers: every number here was typed from them, none was read from the presets."""

from __future__ import annotations

from typing import Any

import pytest
from preset_rows import recipes

from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import scales_of
from logitlab.config.study.rows import unfold
from logitlab.config.training import TrainingConfig
from logitlab.heads import canonical_parameters, create_head
from logitlab.models import create_backbone
from logitlab.records.papers import read_paper_table
from logitlab.studies.engine.making import TrialMaker
from logitlab.studies.presets import preset_path
from logitlab.studies.study_source import define, study_file

# G Table B.2: numbers of classes, then numbers of samples per class; error rates.
CLASSES = {"Softmax": "15.4 18.1 20.2 23.5", "Type-I": "14.6 16.3 19.0 23.3", "Type-II": "13.0 15.6 19.1 24.1"}
SAMPLES = {"Softmax": "49.3 40.3 30.2 23.5", "Type-I": "47.6 38.0 28.8 23.3", "Type-II": "46.8 38.0 29.3 24.1"}

# G Table B.1 (i): condition → T, 𝕋; ImageNet is the row of 1000 classes.
TABLE_B1 = {
    "1000 classes": (120, (30, 60, 90)),
    "100 classes": (180, (60, 120, 150)),
    "200 classes": (180, (60, 120, 150)),
    "500 classes": (120, (30, 60, 90)),
    "100 samples per class": (240, (90, 180, 210)),
    "200 samples per class": (240, (90, 180, 210)),
    "500 samples per class": (180, (60, 120, 150)),
}

L_PRESETS = ("l-mnist", "l-cifar100", "l-cifar100-filters")


def heads(definition: StudyDefinition) -> dict[str, tuple[str, dict[str, Any]]]:
    maker = TrialMaker(definition, None)
    rows = unfold(definition.heads, definition.grid, definition.seeds, definition.search)
    written = {row.label: maker.head(row, row.axes) for row in rows}
    return {label: (head.name, canonical_parameters(head.name, head.parameters)) for label, head in written.items()}


def axes(definition: StudyDefinition) -> dict[str, dict[str, Any]]:
    rows = unfold(definition.heads, definition.grid, definition.seeds, definition.search)
    return {row.label: row.axes for row in rows}


def check(recipe: TrainingConfig, expected: dict[str, Any]) -> None:
    assert {field: getattr(recipe, field) for field in expected} == expected


def test_g_table_b2_has_the_numbers_of_the_paper() -> None:
    expected = {}
    for head, line in CLASSES.items():
        expected |= {(f"{head}, {n} classes", "G Table B.2a"): v for n, v in zip((100, 200, 500, 1000), line.split())}
    for head, line in SAMPLES.items():
        counts = ("100", "200", "500", "1000*")
        expected |= {(f"{head}, {n} samples per class", "G Table B.2b"): v for n, v in zip(counts, line.split())}
    table = read_paper_table("g-table-b2")
    assert {(row, cell.table): cell.printed for (row, _), cell in table.cells.items()} == expected
    assert table.columns == ("Error rate (%)",)


def test_g_table_b2_has_the_schedules_of_table_b1() -> None:
    found = recipes(define("g-table-b2", "paper"))
    assert set(found) == {f"{head}, {setting}" for head in CLASSES for setting in TABLE_B1}
    for label, recipe in found.items():
        epochs, milestones = TABLE_B1[label.split(", ")[1]]
        # G B.1.
        expected = {
            "epochs": epochs,
            "step_milestones": milestones,
            "decay_factor": 0.1,
            "schedule": "step",
            "learning_rate": 0.1,
            "optimizer": "sgd",
            "momentum": 0.9,
            "batch_size": 256,
            "weight_decay": 0.0001,
            "warmup_epochs": 0,
            "augmentation": "resized_crop_flip",
        }
        check(recipe, expected)


def test_g_table_b2_has_the_images_of_the_paper() -> None:
    for label, found in axes(define("g-table-b2", "paper")).items():
        count, what = label.split(", ")[1].split(" ", 1)
        if what == "classes":
            name = "ImageNet" if count == "1000" else f"ImageNet:classes=0-{int(count) - 1}"
            assert found == {"data": name}
        else:
            # So many of each of the 1000 classes, for the choice is balanced.
            assert found == {"data": "ImageNet", "data.train_limit": int(count) * 1000}


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_g_table_b2_compares_softmax_with_both_types(scale: str) -> None:
    for label, (name, parameters) in heads(define("g-table-b2", scale)).items():
        kind = label.split(",")[0]
        assert name == ("softmax" if kind == "Softmax" else "group_softmax")
        if kind != "Softmax":
            built = create_head(name, 128, 10, **parameters)
            assert (built.kind, built.groups) == (kind.removeprefix("Type-"), 8)
            # G (A.13).
            assert built.grouping == "discriminative"


def test_g_table_b2_at_small_divides_the_rate_where_the_paper_does() -> None:
    fractions = {(1 / 4, 1 / 2, 3 / 4), (1 / 3, 2 / 3, 5 / 6), (3 / 8, 3 / 4, 7 / 8)}
    assert {tuple(m / epochs for m in milestones) for epochs, milestones in TABLE_B1.values()} == fractions
    for recipe in recipes(define("g-table-b2", "small")).values():
        assert recipe.step_milestones is not None
        assert tuple(m / recipe.epochs for m in recipe.step_milestones) in fractions


def test_g_table_b2_ranks_no_error_rates_against_accuracies() -> None:
    for scale in scales_of(preset_path("g-table-b2"), study_file):
        definition = define("g-table-b2", scale)
        assert all(column.paper is None for column in definition.columns)
        assert all(claim.rule != "paper_order" for claim in definition.claims)
        assert definition.paper is not None
        assert "error rates" in definition.paper.setting


def test_l_mnist_has_the_accuracies_of_the_slides() -> None:
    table = read_paper_table("l-mnist")
    found = {row: cell.printed for (row, _), cell in table.cells.items()}
    assert found == {"m = 1": "98.45", "m = 2": "98.96", "m = 3": "99.22", "m = 4": "99.34"}


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
@pytest.mark.parametrize("name", L_PRESETS)
def test_l_has_its_margins_without_a_bias(name: str, scale: str) -> None:
    found = heads(define(name, scale))
    assert {head for head, _ in found.values()} == {"lsoftmax"}
    margins = [parameters["margin"] for _, parameters in found.values()]
    if name == "l-cifar100-filters":
        assert set(margins) == {4}
    else:
        assert margins == [1, 2, 3, 4]
    assert not any(parameters["bias"] for _, parameters in found.values())


@pytest.mark.parametrize("name", L_PRESETS)
def test_lambda_falls_as_on_the_slides(name: str) -> None:
    for head, parameters in heads(define(name, "paper")).values():
        if parameters["margin"] == 1:
            # Without a margin there is nothing that λ could weigh.
            assert "annealing" not in parameters
            continue
        annealing = parameters["annealing"]

        def weight(step: int, given: dict[str, float] = annealing) -> float:
            return max(given["minimum"], given["start"] * (1 + given["gamma"] * step) ** -given["power"])

        assert head == "lsoftmax"
        assert [weight(0), weight(900), weight(9900), weight(30000)] == pytest.approx([0.1, 0.01, 0.001, 0.001])


def test_l_mnist_at_paper_is_the_authors_example() -> None:
    definition = define("l-mnist", "paper")
    assert (definition.data.name, definition.backbone) == ("mnist", "lsoftmax_mnist_2d")
    # 30,000 steps of 128 images, the rate divided by 10 after 5,000, 7,500 and 10,000; 54,000 images are 422 steps.
    assert 60_000 * (1 - definition.data.validation_fraction) == 54_000
    steps = -(-54_000 // 128)
    for recipe in recipes(definition).values():
        check(recipe, {"batch_size": 128, "momentum": 0.9, "weight_decay": 0.0005, "learning_rate": 0.1})
        check(recipe, {"optimizer": "sgd", "schedule": "step", "decay_factor": 0.1, "decay_norms_and_biases": False})
        assert recipe.epochs == round(30_000 / steps)
        assert recipe.step_milestones == tuple(round(point / steps) for point in (5_000, 7_500, 10_000))


@pytest.mark.parametrize("name", ["l-cifar100", "l-cifar100-filters"])
def test_l_cifar100_at_paper_has_the_steps_of_the_published_paper(name: str) -> None:
    definition = define(name, "paper")
    assert definition.data.name == "CIFAR100"
    assert definition.backbone == "lsoftmax_cifar"
    # 45,000 images to train on, 5,000 held out; 18,000 steps, the rate divided by 10 after 12,000 and 15,000.
    assert 50_000 * definition.data.validation_fraction == 5_000
    for recipe in recipes(definition).values():
        check(recipe, {"momentum": 0.9, "weight_decay": 0.0005, "learning_rate": 0.1, "decay_factor": 0.1})
        steps = -(-45_000 // recipe.batch_size)
        assert recipe.epochs == round(18_000 / steps)
        assert recipe.step_milestones == tuple(round(point / steps) for point in (12_000, 15_000))


def test_l_cifar100_filters_widens_the_network() -> None:
    widths = [found["backbone.filters"] for found in axes(define("l-cifar100-filters", "paper")).values()]
    assert widths == sorted(set(widths))
    # The network of Figure 6 is among them.
    assert 96 in widths
    for width in (8, 16):
        backbone = create_backbone("lsoftmax_cifar", channels=3, image_size=32, parameters={"filters": width})
        assert next(backbone.parameters()).shape[0] == width


@pytest.mark.parametrize("name", ["l-cifar100", "l-cifar100-filters"])
def test_small_says_that_it_is_not_cifar100(name: str) -> None:
    definition = define(name, "small")
    assert definition.data.name == "cifar10"
    assert "`small` is not CIFAR-100" in " ".join(definition.description.split())
    # The slides print no numbers here.
    assert definition.paper is None


@pytest.mark.parametrize("name", [*L_PRESETS, "g-table-b2"])
def test_claims_have_sources_and_figures_show_curves(name: str) -> None:
    for scale in scales_of(preset_path(name), study_file):
        definition = define(name, scale)
        assert definition.claims
        assert all(claim.source.startswith(("L ", "L,", "G ")) for claim in definition.claims)
        if name.startswith("l-cifar100"):
            (curves,) = (figure for figure in definition.figures if figure.kind == "epochs")
            assert curves.measures == ("error", "validation_error")
