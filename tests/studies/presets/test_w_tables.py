"""W's tables 2 to 4, B.1 to C.3 and E.1: settings typed from the paper (A.1, Table A.1, §3, the tables themselves)."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from preset_rows import IMAGENET, recipes, rows_of

from logitlab import studies
from logitlab.config.study import StudyDefinition
from logitlab.config.study.reading import read_study, scales_of
from logitlab.config.training import TrainingConfig
from logitlab.heads import canonical_parameters
from logitlab.records.papers import read_paper_table
from logitlab.studies.engine.making import TrialMaker
from logitlab.studies.presets import preset_path
from logitlab.training.stages.options import OPTIONS

# Those that measure the models of the nine objectives, and those that train others.
MEASURING = ("w-table-2", "w-table-3", "w-table-4", "w-table-b2", "w-table-e1")
TRAINING = ("w-table-b1", "w-table-c1", "w-table-c2", "w-table-c3")
NAMES = MEASURING + TRAINING
SCALES = [(name, scale) for name in NAMES for scale in scales_of(preset_path(name))]

# W Table A.1: epochs, and what is bold, as keywords of the head.
TABLE_A1: dict[str, tuple[int, dict[str, Any]]] = {
    "Softmax": (146, {}),
    "Squared error": (196, {"loss": "squared_error", "target_weight": 9, "target_value": 60, "loss_scale": 10}),
    "Dropout": (172, {"keep_probability": 0.7}),
    "Label smoothing": (180, {"alpha": 0.1}),
    "Extra final layer L²": (168, {"weight_penalty": 8e-4}),
    "Logit penalty": (180, {"beta": 6e-4}),
    "Logit normalization": (152, {"normalize_logits": True, "kappa": 1 / 0.04}),
    "Cosine softmax": (158, {"classifier": "cosine", "bias": True, "kappa": 1 / 0.05}),
    "Sigmoid": (166, {"loss": "sigmoid"}),
}
LONGEST = 196

# Nothing more: Mixup and the choice of an epoch are said where they are.
PLAIN = {**IMAGENET, "mixup": 0.0, "early_stopping_epochs": None}

# What each table shows, by the key of the measure; W Table 2 has ImageNet's other test sets at the paper's scale alone.
CORRUPTION = {"ImageNet-C (mCE)": "analyse.corruption.value"}
TOP = {"Top-1 (%)": "test.accuracy", "Top-5 (%)": "analyse.accuracy.details.top5"}
MEASURES: dict[str, dict[str, str]] = {
    "w-table-2": {
        "ImageNet-v2 (%)": "shift.imagenetv2.accuracy",
        "ImageNet-A (%)": "shift.imagenet-a.accuracy",
        "IN-Sketch (%)": "shift.imagenet-sketch.accuracy",
        "ImageNet-R (%)": "shift.imagenet-r.accuracy",
        "ImageNet-C (mCE)": "analyse.corruption.alexnet",
    },
    "w-table-3": {
        "NLL": "test.nll",
        "ECE": "test.ece",
        "NLL, scaled": "analyse.calibration.nll_after",
        "ECE, scaled": "analyse.calibration.ece_after",
    },
    "w-table-4": {"R²": "analyse.separation.value"},
    "w-table-b1": {"Top-1 Acc. (%)": "test.accuracy", "Top-5 Acc. (%)": "analyse.accuracy.details.top5"},
    "w-table-b2": {"Top-1 Acc. (%)": "analyse.accuracy.value", "Top-5 Acc. (%)": "analyse.accuracy.details.top5"},
    "w-table-c1": {"Holdout accuracy (%)": "validation.accuracy"},
    "w-table-c2": TOP,
    "w-table-c3": TOP,
    "w-table-e1": {
        "Cosine": "analyse.separation.details.cosine",
        "Cosine (mean-subtracted)": "analyse.separation.details.centered_cosine",
        "Euclidean distance": "analyse.separation.details.euclidean",
    },
}


@cache
def study(name: str, scale: str) -> StudyDefinition:
    return read_study(preset_path(name), scale=scale)


def heads(definition: StudyDefinition) -> dict[str, dict[str, Any]]:
    """Label → all that the keywords of its head come to."""
    maker = TrialMaker(definition, None)
    written = {label: maker.head(row, row.axes) for label, row in rows_of(definition).items()}
    return {label: canonical_parameters(head.name, head.parameters) or {} for label, head in written.items()}


def check_imagenet(definition: StudyDefinition, backbone: str) -> None:
    assert (definition.data.name, definition.data.image_size) == ("ImageNet", 224)
    assert definition.backbone == backbone
    # W §3: 50,046 of 1,281,167 images are held out.
    assert definition.data.validation_fraction * 1_281_167 == pytest.approx(50_046, abs=0.5)


def check_recipe(recipe: TrainingConfig, **differing: Any) -> None:
    expected = {**PLAIN, **differing}
    assert {field: getattr(recipe, field) for field in expected} == expected


def trials_of(definition: StudyDefinition) -> dict[str, tuple[Any, ...]]:
    """All that makes the trials of a row what they are."""
    built, trained, rows = heads(definition), recipes(definition), rows_of(definition)
    where = (definition.data, definition.backbone, definition.select_epoch)
    return {label: (built[label], trained[label].essence(), rows[label].seeds, *where) for label in rows}


@pytest.mark.parametrize("name", MEASURING)
def test_the_trials_are_those_of_the_nine_objectives(name: str) -> None:
    scales = scales_of(preset_path("w-objectives"))
    assert scales_of(preset_path(name)) == scales
    for scale in scales:
        ours, base = trials_of(study(name, scale)), trials_of(study("w-objectives", scale))
        assert ours.items() <= base.items()
        assert len(ours) == (4 if (name, scale) == ("w-table-2", "tiny") else 9)


@pytest.mark.parametrize("name", MEASURING)
def test_those_of_imagenet_have_the_numbers_of_table_a1(name: str) -> None:
    definition = study(name, "paper")
    check_imagenet(definition, "resnet50")
    assert definition.seeds == 8
    assert heads(definition) == {label: pytest.approx(parameters) for label, (_, parameters) in TABLE_A1.items()}
    for label, recipe in recipes(definition).items():
        check_recipe(recipe, epochs=TABLE_A1[label][0])


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_each_column_of_the_paper_stands_beside_what_it_measures(name: str, scale: str) -> None:
    definition = study(name, scale)
    expected = CORRUPTION if name == "w-table-2" and scale != "paper" else MEASURES[name]
    assert {column.paper: column.measure for column in definition.columns if column.paper} == expected
    assert definition.paper is not None
    assert definition.paper.table == name
    table = read_paper_table(name)
    shown = set(definition.paper.columns or table.columns)
    assert expected.keys() <= shown <= set(table.columns)
    assert {claim.paper for claim in definition.claims if claim.paper} <= shown
    # What the paper prints in per cent is a share of ours; its corruption error is in per cent already.
    for column in definition.columns:
        assert column.factor == (100 if "accuracy" in column.measure else 1)
    lower = {"test.nll", "test.ece", "analyse.calibration.nll_after", "analyse.calibration.ece_after"}
    for column in definition.columns:
        if column.paper:
            assert column.better == (
                "lower" if column.measure in lower | {*CORRUPTION.values(), "analyse.corruption.alexnet"} else "higher"
            )


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_each_row_has_its_row_in_the_paper(name: str, scale: str) -> None:
    definition = study(name, scale)
    labels = list(rows_of(definition))
    printed = read_paper_table(name).rows
    # Squared error defines no probabilities; two rows of Table C.3 are other papers'; `tiny` has some of the cells.
    without = [label for label in labels if label not in printed]
    assert without == (["Squared error"] if name == "w-table-3" else [])
    kept = [label for label in labels if label in printed]
    assert kept == [row for row in printed if row in labels]
    if scale != "tiny":
        others = {"Softmax (Cubuk et al., 2019)", "Supervised contrastive (Khosla et al., 2020)"}
        assert set(printed) - set(labels) == (others if name == "w-table-c3" else set())


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_each_claim_is_about_what_is_measured(name: str, scale: str) -> None:
    definition = study(name, scale)
    measured = set(MEASURES[name].values()) | {"test.accuracy"}
    if name == "w-table-2" and scale != "paper":
        measured = {*CORRUPTION.values(), "test.accuracy"}
    assert definition.claims
    for claim in definition.claims:
        assert claim.source.startswith("W ")
        assert claim.measure in measured
    assert len({claim.text for claim in definition.claims}) == len(definition.claims)
    assert {measure for figure in definition.figures for measure in figure.measures} <= measured
    for column in definition.columns:
        assert column.paper is None or column.measure in {claim.measure for claim in definition.claims}
    for stage in definition.stages:
        OPTIONS[stage.name].model_validate(stage.options)


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_the_description_has_a_line_for_the_scale(name: str, scale: str) -> None:
    definition = study(name, scale)
    assert name.removeprefix("w-table-").upper().replace("B", "B.").replace("C", "C.").replace("E", "E.") in (
        definition.title.rpartition("(W Table ")[2].rstrip(")")
    )
    (line,) = (line for line in definition.description.splitlines() if line.startswith(f"| `{scale}` |"))
    assert str(definition.seeds) in line.rsplit("|", 2)[1]
    epochs = {recipe.epochs for recipe in recipes(definition).values()}
    if scale != "paper":
        assert sorted(epochs) == [int(number) for number in re.findall(r"\d+", line.split("|")[4])]


@pytest.mark.parametrize(
    ("name", "scale", "part"),
    [(name, scale, "train" if name == "w-table-b2" else "test") for name, scale in SCALES if name != "w-table-c1"],
)
def test_each_is_measured_on_the_images_of_the_paper(name: str, scale: str, part: str) -> None:
    # Table 4 and E.1 are of training images, which `separation` always looks at.
    (stage,) = (stage for stage in study(name, scale).stages if stage.name == "analyse")
    assert stage.options.get("part", "test") == part
    needed = {
        "w-table-2": "corruption",
        "w-table-3": "calibration",
        "w-table-4": "separation",
        "w-table-e1": "separation",
    }
    assert needed.get(name, "accuracy") in stage.options["measures"]
    # ImageNet's test images are all looked at.
    assert scale != "paper" or "limit" not in stage.options


def test_table_2_names_the_four_sets() -> None:
    (stage,) = (stage for stage in study("w-table-2", "paper").stages if stage.name == "shift")
    assert stage.options == {"data": ["imagenetv2", "imagenet-a", "imagenet-sketch", "imagenet-r"]}


def test_table_b1_is_of_inception_with_the_losses_of_table_a1() -> None:
    definition = study("w-table-b1", "paper")
    check_imagenet(definition, "inception_v3")
    assert definition.seeds == 3
    # "To select the point at which to stop for each loss": none of ours is later than those of Table A.1.
    assert definition.select_epoch == "best"
    assert heads(definition) == {label: pytest.approx(parameters) for label, (_, parameters) in TABLE_A1.items()}
    for label, recipe in recipes(definition).items():
        epochs = TABLE_A1[label][0]
        check_recipe(recipe, epochs=epochs, early_stopping_epochs=epochs)


def expected_cell(label: str) -> dict[str, Any]:
    """The keywords of a cell of Table C.1, by what it is called."""
    cosine = {"classifier": "cosine", "kappa": 20}
    losses: dict[str, dict[str, Any]] = {
        "Softmax": {},
        "Label smoothing (0.1)": {"alpha": 0.1},
        "Sigmoid": {"loss": "sigmoid"},
        "Cosine softmax (0.05)": {**cosine, "bias": True},
    }
    regularizer, _, loss = label.rpartition(" + ")
    if not regularizer and loss not in losses:
        regularizer, loss = loss, "Softmax"
    expected = dict(losses[loss])
    if regularizer:
        match = re.fullmatch(r"(.+) \((.+)\)", regularizer)
        assert match is not None
        kind, number = match[1], float(match[2])
        expected |= {
            "Dropout": {"keep_probability": number},
            "Logit penalty": {"beta": number},
            "Logit normalization": {"normalize_logits": True, "kappa": 1 / number},
            # Sigmoid has a bias anyway.
            "Cosine normalization": {"classifier": "cosine", "kappa": 1 / number},
            "Cosine softmax": {"classifier": "cosine", "bias": True, "kappa": 1 / number},
        }[kind]
    return expected


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_the_cells_of_table_c1_are_what_they_are_called(scale: str) -> None:
    definition = study("w-table-c1", scale)
    built = heads(definition)
    assert built == {label: pytest.approx(expected_cell(label)) for label in built}
    assert len(built) == (16 if scale == "tiny" else 52)
    assert definition.select_epoch == "best"
    assert definition.stages == ()
    # "All results reflect the maximum accuracy on the holdout set at any point during training".
    for recipe in recipes(definition).values():
        assert recipe.early_stopping_epochs == recipe.epochs


def test_table_c1_at_the_papers_scale() -> None:
    definition = study("w-table-c1", "paper")
    check_imagenet(definition, "resnet50")
    assert definition.seeds == 3
    for recipe in recipes(definition).values():
        check_recipe(recipe, epochs=LONGEST, early_stopping_epochs=LONGEST)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, scale in SCALES if name in NAMES[-2:]])
def test_mixup_is_searched_among_the_papers_values(name: str, scale: str) -> None:
    definition = study(name, scale)
    mixed = {label: row for label, row in rows_of(definition).items() if row.search is not None}
    assert set(mixed) == {label for label in rows_of(definition) if label.endswith(" + Mixup")}
    assert len(mixed) == (4 if name == "w-table-c2" else 2)
    for row in mixed.values():
        assert row.search is not None
        (axis,) = row.search.parameters
        assert axis == "training.mixup"
        values = [0.1, 0.2] if scale == "tiny" else [0.1, 0.2, 0.3, 0.4]
        assert list(row.search.parameters[axis].values) == values
        assert (row.search.parameters[axis].scale, row.search.method) == ("linear", "coarse_to_fine")
        assert (row.search.refinements, row.search.expansions) == (0, 0)
        assert (row.search.measure, row.search.better) == ("validation.accuracy", "higher")
        # W A.1: three runs a configuration.
        assert row.search.seeds == {"tiny": 1, "small": 2, "paper": 3}[scale]


def test_table_c2_at_the_papers_scale() -> None:
    definition = study("w-table-c2", "paper")
    check_imagenet(definition, "resnet50")
    built, trained, rows = heads(definition), recipes(definition), rows_of(definition)
    for loss in ("Softmax", "Sigmoid", "Logit penalty", "Cosine softmax"):
        epochs, parameters = TABLE_A1[loss]
        for label in (loss, f"{loss} + AutoAugment", f"{loss} + Mixup"):
            assert built[label] == pytest.approx(parameters)
            # "Averaged over 3 (with AutoAugment) or 8 (without AutoAugment) runs."
            assert len(rows[label].seeds) == (3 if "AutoAugment" in label else 8)
        check_recipe(trained[loss], epochs=epochs)
        best = {"epochs": LONGEST, "early_stopping_epochs": LONGEST}
        check_recipe(trained[f"{loss} + AutoAugment"], **best, augmentation="resized_autoaugment")
        check_recipe(trained[f"{loss} + Mixup"], **best)


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_first_rows_of_table_c2_are_trials_of_the_nine_objectives(scale: str) -> None:
    table, objectives = study("w-table-c2", scale), study("w-objectives", scale)
    if scale == "paper":
        # The other rows choose their epoch on the hold-out, on which nothing of the table is trained therefore.
        assert objectives.data.train_on_held_out
        apart = objectives.data.model_copy(update={"train_on_held_out": False})
        objectives = objectives.model_copy(update={"data": apart})
    ours, base = trials_of(table), trials_of(objectives)
    for loss in ("Softmax", "Sigmoid", "Logit penalty", "Cosine softmax"):
        assert ours[loss] == base[loss]


def test_table_c3_at_the_papers_scale() -> None:
    definition = study("w-table-c3", "paper")
    check_imagenet(definition, "resnet50")
    built, trained = heads(definition), recipes(definition)
    epochs = {"Softmax": 306, "Sigmoid": 324, "Logit penalty": 346, "Cosine softmax": 308}
    epochs |= {"Sigmoid + Mixup": 384, "Cosine softmax + Mixup": 348}
    for label, count in epochs.items():
        # "Decays exponentially at a rate of 0.985 per epoch, rather than 0.975."
        check_recipe(trained[label], epochs=count, decay_factor=0.985, augmentation="resized_autoaugment")
        assert built[label] == pytest.approx(TABLE_A1[label.removesuffix(" + Mixup")][1])
    assert definition.seeds == 3


@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_the_shorter_rows_of_table_c3_are_trials_of_table_c2(scale: str) -> None:
    longer, shorter = trials_of(study("w-table-c3", scale)), trials_of(study("w-table-c2", scale))
    found = {label: trial for label, trial in longer.items() if label.endswith(", shorter")}
    assert len(found) == 4
    for label, trial in found.items():
        assert trial == shorter[label.removesuffix(", shorter") + " + AutoAugment"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_at_tiny_every_column_has_numbers_and_every_claim_a_verdict(name: str, shared_runs: Path) -> None:
    outcome = studies.run(name, scale="tiny", executor="serial", out=shared_runs, device="cpu", report=True)
    assert outcome.failed == ()
    assert outcome.complete
    for row in outcome.results.rows:
        assert len(row.seeds) == 2
        for column in outcome.results.definition.columns:
            values = list(row.values(column.measure).values())
            if (name, row.label) == ("w-table-3", "Squared error"):
                assert values == [None, None]
            else:
                assert len(values) == 2
                assert None not in values, (row.label, column.measure)
    verdicts = outcome.verdicts
    assert len(verdicts) == len(outcome.results.definition.claims)
    for verdict in verdicts:
        assert "Cannot be asked of this study" not in verdict.evidence, str(verdict)
        # A rule that found nothing to test leaves no numbers.
        assert verdict.numbers, str(verdict)
    assert outcome.report is not None
