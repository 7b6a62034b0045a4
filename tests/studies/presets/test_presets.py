"""The presets against the papers: every number here was typed from the papers, none was read from the presets."""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose
from typing import Any

import pytest
import torch
from preset_rows import IMAGENET, recipes, rows_of

from logitlab.config.errors import ConfigurationError
from logitlab.config.specification import parse_specification
from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import read_study, scales_of
from logitlab.config.training import TrainingConfig
from logitlab.data import list_data_sets
from logitlab.heads import canonical_parameters
from logitlab.models import create_backbone
from logitlab.records.papers import read_paper_table
from logitlab.studies.components import Shape, read_heads
from logitlab.studies.engine.making import TrialMaker
from logitlab.studies.faults import Faults
from logitlab.studies.presets import preset_path
from logitlab.training.stages.options import LinearProbeOptions

#: The presets whose settings are held against the papers here.
NAMES = ("t-table-2", "w-table-1", "w-table-6")
SCALES = [(name, scale) for name in NAMES for scale in scales_of(preset_path(name))]

# Channels, side and number of classes.
SHAPES = {
    "digits": Shape(1, 8, 10),
    "fashion-mnist": Shape(1, 28, 10),
    "CIFAR10": Shape(3, 32, 10),
    "CIFAR100": Shape(3, 32, 100),
    "Food101": Shape(3, 224, 101),
    "ImageNet": Shape(3, 224, 1000),
}

# W's losses, by what the tables call them.
HEADS = {
    "Softmax": "softmax",
    "Squared error": "squared_error",
    "Dropout": "dropout",
    "Label smoothing": "label_smoothing",
    "Extra final layer L²": "final_l2",
    "Logit penalty": "logit_penalty",
    "Logit normalization": "logit_norm",
    "Cosine softmax": "cosine",
    "Sigmoid": "sigmoid",
}

# W Table A.2: exponents of η and λ̃ to the base of ten, and the loss's own parameters.
TABLE_A2: dict[str, dict[str, tuple[float, float, dict[str, float]]]] = {
    "CIFAR-10": {
        "Squared error": (-1, -3.5, {"target_weight": 8, "target_value": 0.83}),
        "Softmax": (-0.75, -3.75, {}),
        "Logit normalization": (-2, -4, {"kappa": 1 / 0.14}),
        "Extra final layer L²": (-1, -3.5, {"weight_penalty": 10**-1.5}),
        "Cosine softmax": (-2.25, -4, {"kappa": 1 / 0.08}),
        "Dropout": (-1, -3.75, {"keep_probability": 0.65}),
        "Sigmoid": (0, -3.75, {}),
        "Label smoothing": (-1, -3.75, {"alpha": 0.04}),
        "Logit penalty": (-0.75, -3.75, {"beta": 10**-2.83}),
    },
    "CIFAR-100": {
        "Squared error": (-1, -3.75, {"target_weight": 6, "target_value": 12}),
        "Softmax": (-1, -4, {}),
        "Logit normalization": (-2.25, -3.75, {"kappa": 1 / 0.11}),
        "Extra final layer L²": (-1, -3.75, {"weight_penalty": 10**-3.33}),
        "Cosine softmax": (-2, -3.75, {"kappa": 10}),
        "Dropout": (-1.25, -3.75, {"keep_probability": 0.75}),
        "Sigmoid": (-1, -3.75, {}),
        "Label smoothing": (-1, -3.5, {"alpha": 0.18}),
        "Logit penalty": (-1.25, -3.75, {"beta": 10**-2.83}),
    },
}

# W Table A.1: epochs, and the loss's own parameters.
TABLE_A1: dict[str, tuple[int, dict[str, float]]] = {
    "Softmax": (146, {}),
    "Squared error": (196, {"target_weight": 9, "target_value": 60, "loss_scale": 10}),
    "Dropout": (172, {"keep_probability": 0.7}),
    "Label smoothing": (180, {"alpha": 0.1}),
    "Extra final layer L²": (168, {"weight_penalty": 8e-4}),
    "Logit penalty": (180, {"beta": 6e-4}),
    "Logit normalization": (152, {"kappa": 25}),
    "Cosine softmax": (158, {"kappa": 20}),
    "Sigmoid": (166, {}),
}

# TS §7, Table 8.
KOBAYASHI = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1, "schedule": "cosine", "warmup_epochs": 0}


def study(name: str, scale: str) -> StudyDefinition:
    return read_study(preset_path(name), scale=scale)


def heads(definition: StudyDefinition) -> dict[str, tuple[str, dict[str, Any]]]:
    """Label → name of the head and all that its parameters come to; a κ that is not known yet is 2 · 5."""
    maker = TrialMaker(definition, None)
    found = {}
    for row in rows_of(definition).values():
        known = dict.fromkeys(row.entry.depends_on, 2 * 5.0)
        head = maker.head(row, {**row.axes, **known})
        found[row.label] = (head.name, canonical_parameters(head.name, head.parameters) or {})
    return found


def check_fields(recipe: TrainingConfig, expected: dict[str, Any]) -> None:
    for field, value in expected.items():
        assert getattr(recipe, field) == value, field


def same_numbers(found: dict[str, Any], expected: dict[str, float]) -> Iterator[str]:
    """Parameters that differ, among those of the losses."""
    own = set().union(*(parameters for table in TABLE_A2.values() for *_, parameters in table.values())) | {
        "loss_scale"
    }
    for key in own:
        one, other = found.get(key), expected.get(key)
        if (one is None) != (other is None) or (one is not None and other is not None and not isclose(one, other)):
            yield f"{key}: {one} instead of {other}"


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match="Unknown preset 'w-tabel-1'; did you mean 'w-table-1'"):
        preset_path("w-tabel-1")


@pytest.mark.parametrize("name", NAMES)
def test_small_is_the_default(name: str) -> None:
    definition = read_study(preset_path(name))
    assert definition.scale == "small"
    assert definition.name == name
    assert definition.data.name == "fashion-mnist"


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_backbone_and_heads_of_every_scale_can_be_built(name: str, scale: str) -> None:
    definition = study(name, scale)
    shape = SHAPES[definition.data.name]
    assert definition.data.image_size in (None, shape.image_size)
    assert definition.data.name.lower() in list_data_sets()
    network = parse_specification(definition.backbone, "backbone")
    with torch.device("cpu" if network.name.startswith("resnet50") else "meta"):
        backbone = create_backbone(
            network.name, channels=shape.channels, image_size=shape.image_size, parameters=network.parameters
        )
    expected = {"mlp": 128, "small_cnn": 128, "all_cnn_c": 192, "wide_resnet": 512, "resnet34_cifar": 512}
    assert backbone.num_features == expected.get(network.name, 2048)
    faults = Faults()
    maker = TrialMaker(definition, None)
    written = [
        maker.head(row, {**row.axes, **dict.fromkeys(row.entry.depends_on, 10.3)})
        for row in rows_of(definition).values()
    ]
    built = read_heads(written, backbone.num_features, shape, faults)
    assert faults.sentences == []
    assert len(built) == len(written)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_scale_says_what_it_is(name: str, scale: str) -> None:
    definition = study(name, scale)
    assert definition.title
    assert definition.source
    assert f"`{scale}`" in definition.description
    line = next(line for line in definition.description.splitlines() if line.startswith(f"| `{scale}`"))
    epochs = {recipe.epochs for recipe in recipes(definition).values()}
    if len(epochs) == 1:
        assert f"| {epochs.pop()} |" in line
    assert str(definition.seeds) in line.rsplit("|", 2)[1]


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_rows_and_columns_stand_in_the_papers_table(name: str, scale: str) -> None:
    definition = study(name, scale)
    assert definition.paper is not None
    table = read_paper_table(definition.paper.table)
    names = [row.entry.paper_row or row.label for row in rows_of(definition).values()]
    if (name, scale) == ("w-table-6", "small"):
        # The sweep over κ has two of the paper's temperatures.
        assert [row for row in names if row in table.rows] == ["0.05", "0.02"]
    else:
        assert tuple(names) == table.rows
    wanted = {*definition.paper.columns, *(column.paper for column in definition.columns if column.paper)}
    wanted |= {claim.paper for claim in definition.claims if claim.paper}
    assert wanted <= set(table.columns)
    # What stands beside a column of ours, or decides a claim, is shown.
    assert wanted <= set(definition.paper.columns)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_claims_and_figures_are_about_what_is_measured(name: str, scale: str) -> None:
    definition = study(name, scale)
    labels = {row.label for row in rows_of(definition).values()}
    measured = {f"test.{measure}" for measure in ("accuracy", "nll", "ece", "class_separation", "class_angle")}
    measured |= {"test.kappa_star", "test.miss_ap"}
    for stage in definition.stages:
        if stage.name != "linear_probe":
            # What an analysis measures is looked at where every preset is run.
            measured.add("analyse.accuracy.details.top5")
            continue
        options = LinearProbeOptions.model_validate(stage.options)
        assert {data.lower() for data in options.data} <= set(list_data_sets())
        measured |= {f"linear_probe.{data.lower()}.accuracy" for data in [*options.data, "held_out"]}
    for claim in definition.claims:
        assert claim.source.startswith("W" if name.startswith("w") else "T")
        assert claim.measure in measured
        assert set(claim.rows) <= labels
        assert claim.than is None or claim.than in labels
    assert {column.measure for column in definition.columns} <= measured
    assert {measure for figure in definition.figures for measure in figure.measures} <= measured
    assert definition.claims
    assert definition.figures


@pytest.mark.parametrize(
    ("scale", "column"),
    [("tiny", "CIFAR-10"), ("small", "CIFAR-10"), ("paper-cifar10", "CIFAR-10"), ("paper-cifar100", "CIFAR-100")],
)
def test_w_table_1_has_the_numbers_of_table_a2(scale: str, column: str) -> None:
    definition = study("w-table-1", scale)
    built, trained = heads(definition), recipes(definition)
    assert list(built) == list(HEADS)
    for label, (eta, decay, parameters) in TABLE_A2[column].items():
        if (scale, label) == ("small", "Cosine softmax"):
            eta = -1.5  # the preset says why
        name, found = built[label]
        assert name == HEADS[label]
        assert list(same_numbers(found, parameters)) == [], label
        recipe = trained[label]
        assert recipe.learning_rate == pytest.approx(10**eta, rel=1e-7), label
        assert recipe.scaled_weight_decay == pytest.approx(10**decay, rel=1e-7), label
        # W A.1, "CIFAR".
        expected = {"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "schedule": "cosine", "ema_decay": None}
        check_fields(recipe, expected)
        assert recipe.batch_size == (256 if column == "CIFAR-100" else 128)
        assert recipe.decay_norms_and_biases is (column == "CIFAR-100")


def test_w_table_1_at_small_trains_on_10000_images_with_three_seeds() -> None:
    definition = study("w-table-1", "small")
    assert definition.data.train_limit == 10_000
    assert 60_000 * (1 - definition.data.validation_fraction) >= 10_000
    assert definition.seeds == 3
    assert definition.backbone == "small_cnn"


@pytest.mark.parametrize(
    ("scale", "data", "backbone", "seeds"),
    [
        ("paper-cifar10", "CIFAR10", "all_cnn_c", 25),
        ("paper-cifar10-search", "CIFAR10", "all_cnn_c", 25),
        ("paper-cifar100", "CIFAR100", "wide_resnet:depth=16,width=8", 25),
        ("paper", "ImageNet", "resnet50", 8),
    ],
)
def test_w_table_1_at_the_papers_scales(scale: str, data: str, backbone: str, seeds: int) -> None:
    definition = study("w-table-1", scale)
    assert (definition.data.name, definition.backbone, definition.seeds) == (data, backbone, seeds)


def test_w_table_1_on_imagenet_has_the_numbers_of_table_a1() -> None:
    definition = study("w-table-1", "paper")
    built, trained = heads(definition), recipes(definition)
    assert list(built) == list(HEADS)
    for label, (epochs, parameters) in TABLE_A1.items():
        name, found = built[label]
        assert name == HEADS[label]
        assert list(same_numbers(found, parameters)) == [], label
        check_fields(trained[label], {**IMAGENET, "epochs": epochs})
    # W §3: 50,046 of 1,281,167 images are held out.
    assert definition.data.validation_fraction * 1_281_167 == pytest.approx(50_046, abs=0.5)
    assert definition.data.image_size == 224


def test_the_search_of_w_table_1_is_that_of_a1() -> None:
    definition = study("w-table-1", "paper-cifar10-search")
    search = definition.search
    assert search is not None
    assert search.method == "coarse_to_fine"
    assert search.seeds == 5
    assert search.refinements == 1
    assert search.measure == "validation.accuracy"
    exponents = {
        "training.learning_rate": [-2, -1.5, -1, -0.5, 0, 0.5],
        "training.scaled_weight_decay": [-4.5, -4, -3.5, -3],
    }
    assert search.parameters.keys() == exponents.keys()
    for axis, expected in exponents.items():
        found = search.parameters[axis]
        assert found.scale == "log"
        assert found.values == pytest.approx([10**exponent for exponent in expected], rel=1e-7)
        # "expanded ... when the best accuracy was on the edge": nothing forbids it.
        assert found.low is None
        assert found.high is None
    assert search.expansions >= 1
    assert all(row.search is search for row in rows_of(definition).values())
    # What is searched is not fixed.
    assert not any({"learning_rate", "scaled_weight_decay"} & entry.training.keys() for entry in definition.heads)
    for label, (*_, parameters) in TABLE_A2["CIFAR-10"].items():
        assert list(same_numbers(heads(definition)[label][1], parameters)) == [], label


@pytest.mark.parametrize("scale", ["tiny", "small-scaled-loss", "paper"])
def test_w_table_6_scales_the_loss_by_the_temperature(scale: str) -> None:
    definition = study("w-table-6", scale)
    built = list(heads(definition).values())
    taus = [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
    assert [found["kappa"] for _, found in built] == pytest.approx([1 / tau for tau in taus])
    assert [found["loss_scale"] for _, found in built] == taus
    assert {name for name, _ in built} == {"cosine"}
    # W (7) has a bias.
    assert all(found["classifier"] == "cosine" and found["bias"] is True for _, found in built)


def test_w_table_6_on_imagenet_is_trained_as_cosine_softmax_of_table_1() -> None:
    definition = study("w-table-6", "paper")
    for recipe in recipes(definition).values():
        check_fields(recipe, {**IMAGENET, "epochs": 158})
    (stage,) = definition.stages
    # W Table 6 but for Birdsnap, and IN(50k).
    expected = ["food101", "cifar10", "cifar100", "sun397", "stanfordcars", "oxfordiiitpet", "flowers102"]
    assert [name.lower() for name in stage.options["data"]] == expected
    assert stage.options["held_out"] is True
    assert "train_limit" not in stage.options
    # 50,046 of ImageNet's 1,281,167 training images are held out.
    assert round(definition.data.validation_fraction * 1_281_167) == 50_046


def test_the_warmest_row_with_the_loss_scaled_is_cosine_softmax_of_w_table_1() -> None:
    # Steps are η times the gradient of τ times the loss; λ̃ is the product of η and the decay.
    six, one = study("w-table-6", "small-scaled-loss"), study("w-table-1", "small")
    ours, other = recipes(six)["τ = 0.08"], recipes(one)["Cosine softmax"]
    assert ours.learning_rate * 0.08 == pytest.approx(other.learning_rate, rel=1e-6)
    same = TrainingConfig.model_fields.keys() - {"learning_rate"}
    assert {field: getattr(ours, field) for field in same} == {field: getattr(other, field) for field in same}
    assert six.data == one.data
    assert six.backbone == one.backbone


@pytest.mark.parametrize("scale", scales_of(preset_path("t-table-2")))
def test_t_table_2_has_the_rows_of_the_paper(scale: str) -> None:
    definition = study("t-table-2", scale)
    built = heads(definition)
    fixed = [1, 5, 10, 20, 30, 40, 50, 60]
    assert list(built) == ["softmax", "LS", *(f"κ = {kappa}" for kappa in fixed), "κ = 2κ*"]
    assert built["softmax"][0] == "softmax"
    assert built["LS"][1]["temperature"] == "least_squares"
    for kappa in fixed:
        name, found = built[f"κ = {kappa}"]
        assert name == "cosine"
        assert found["kappa"] == kappa
    # T (2) has no bias.
    assert not any(found.get("bias") for label, (_, found) in built.items() if label != "softmax")
    (twice,) = (entry for entry in definition.heads if entry.depends_on)
    assert twice.label == "κ = 2κ*"
    (dependence,) = twice.depends_on.values()
    assert list(twice.depends_on) == ["head.kappa"]
    assert (dependence.of, dependence.measure, dependence.times) == ("LS", "validation.kappa_star", 2)
    assert dependence.statistic == "mean"


@pytest.mark.parametrize(
    ("scale", "data", "backbone", "epochs", "decay", "batch"),
    [
        ("paper", "ImageNet", "resnet50", 100, 1e-4, 256),
        ("paper-food101", "Food101", "resnet50", 100, 1e-4, 256),
        ("paper-cifar10", "CIFAR10", "resnet34_cifar", 240, 5e-4, 128),
        ("paper-cifar100", "CIFAR100", "resnet34_cifar", 240, 5e-4, 128),
    ],
)
def test_t_table_2_has_the_numbers_of_ts_table_8(
    scale: str, data: str, backbone: str, epochs: int, decay: float, batch: int
) -> None:
    definition = study("t-table-2", scale)
    assert (definition.data.name, definition.backbone) == (data, backbone)
    expected = {**KOBAYASHI, "epochs": epochs, "weight_decay": decay, "batch_size": batch}
    for recipe in recipes(definition).values():
        check_fields(recipe, expected)


def test_t_table_2_at_small_differs_from_ts_table_8_where_it_says_so() -> None:
    expected = {**KOBAYASHI, "weight_decay": 5e-4, "batch_size": 128, "epochs": 10, "warmup_epochs": 1}
    for recipe in recipes(study("t-table-2", "small")).values():
        check_fields(recipe, expected)
