"""The page that a trained model carries: what it is, what it measured, how to use it, where its limits lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from logitlab.config.errors import InputError
from logitlab.config.names import printable
from logitlab.config.specification import Specification
from logitlab.statistics import Rejection, short_threshold, threshold_for_precision

from .rendering import escape_markdown

# Key in result["test"], what it is, format, factor, unit.
_MEASURES = (
    ("accuracy", "accuracy", ".2f", 100, " %"),
    ("balanced_accuracy", "balanced accuracy (every class weighted alike)", ".2f", 100, " %"),
    ("nll", "negative log-likelihood, nats", ".4f", 1, ""),
    ("ece", "expected calibration error, 15 bins", ".4f", 1, ""),
    ("miss_ap", "average precision of right answers ranked by max logit", ".4f", 1, ""),
    ("class_angle", "mean angle between a feature and the weight of its class", ".2f", 1, "°"),
    ("class_separation", "class separation R² of the training features, by cosine", ".4f", 1, ""),
    ("kappa", "κ, the inverse temperature at inference", ".4g", 1, ""),
    ("kappa_star", "κ*, measured by least squares", ".4g", 1, ""),
)
_PRECISIONS = (0.95, 0.99)
_MOST_CLASSES = 100
_LINKS = {
    "softmax": "a softmax of the logits",
    "normalized_sigmoid": "a sigmoid of each logit, divided by their sum",
    "none": "none: the loss defines no probabilities, and the largest logit stands in for confidence",
}


def model_card(
    record: Mapping[str, Any],
    description: Mapping[str, Any],
    source: str,
    outputs: Mapping[str, Any] | None = None,
) -> str:
    """Write the model card of a finished trial in Markdown; every text of the user's is escaped.

    Args:
        record: ``config``, ``result`` and ``provenance`` of the trial.
        description: what ``model.json`` holds.
        source: of the head: paper and equation.
        outputs: arrays of ``outputs.npz``; None leaves out what rests on single answers.
    """
    config, result = record["config"], record["result"]
    head = Specification(config["head"]["name"], config["head"]["parameters"])
    backbone = Specification(config["backbone"]["name"], config["backbone"]["parameters"])
    data = printable(str(config["data"]["name"]))
    sections = [
        f"# {_text(str(head))} on {_text(str(backbone))}",
        f"An image classifier of {len(description['class_names'])} classes, trained by LogitLab on {_code(data)}.",
        "## Model",
        _list(
            [
                f"Head: {_code(str(head))}. Source: {_text(source)}.",
                f"What the head comes to: {_code(_keywords(result.get('head_parameters') or {}) or 'its defaults')}.",
                f"Backbone: {_code(str(backbone))}; {description['num_features']} features.",
                *_count_line(result),
                f"Probabilities: {_LINKS.get(description['link'], _text(str(description['link'])))}.",
            ]
        ),
        "## Data",
        _list(_data_lines(config, result, description)),
        "## Measured on the test images",
        *_measures(result),
        "## Calibration and rejection",
        *_calibration(result, description, outputs),
        *_strange(record.get("ood") or {}),
        "## Use",
        *_usage(description),
        "## Recipe",
        _list([f"{_code(key)}: {_code(_value(value))}" for key, value in _recipe(config).items()]),
        "## Versions",
        _list(_versions(record["provenance"])),
        "## Limits",
        _list(_limits(data, description)),
    ]
    return "\n\n".join(sections) + "\n"


def _count_line(result: Mapping[str, Any]) -> list[str]:
    found = result.get("parameters")
    return [] if found is None else [f"Parameters: {found:,}."]


def _data_lines(config: Mapping[str, Any], result: Mapping[str, Any], description: Mapping[str, Any]) -> list[str]:
    names = list(description["class_names"])
    shown = ", ".join(_code(name) for name in names[:_MOST_CLASSES])
    more = f", and {len(names) - _MOST_CLASSES} more in `model.json`" if len(names) > _MOST_CLASSES else ""
    images = result.get("images") or {}
    side, channels = description["image_size"], description["channels"]
    lines = [
        f"Name: {_code(printable(str(config['data']['name'])))}; fingerprint `{config['data_fingerprint'][:16]}`.",
        f"Images: {side}x{side} pixels, {'grey' if channels == 1 else 'RGB'}; others are converted and resized, "
        "without regard to their aspect ratio.",
    ]
    if images:
        lines.append(", ".join(f"{count} {part}" for part, count in images.items()) + " images.")
    return [*lines, f"Classes: {shown}{more}."]


def _measures(result: Mapping[str, Any]) -> list[str]:
    test, count = result["test"], (result.get("images") or {}).get("test")
    rows = [
        f"| {_text(title)} | {scale * test[key]:{form}}{unit} |"
        for key, title, form, scale, unit in _MEASURES
        if test.get(key) is not None
    ]
    rested = "" if count is None else f" {count} test images, which no choice was made on."
    return [
        f"One run, one seed: another seed gives other numbers.{rested}",
        "\n".join(["| measure | value |", "| --- | ---: |", *rows]),
    ]


def _calibration(
    result: Mapping[str, Any], description: Mapping[str, Any], outputs: Mapping[str, Any] | None
) -> list[str]:
    test, probabilities = result["test"], description["link"] != "none"
    parts = []
    if probabilities and outputs is not None and len(outputs["confidence"]):
        mean, accuracy = float(outputs["confidence"].mean()), test["accuracy"]
        word = "overconfident" if mean > accuracy else "underconfident"
        parts.append(
            f"The mean confidence on the test images is {100 * mean:.2f} %, the accuracy {100 * accuracy:.2f} %: "
            f"{word} by {100 * abs(mean - accuracy):.2f} percentage points."
        )
    if not probabilities:
        parts.append("The head defines no probabilities, so calibration is not defined. Answers rank by max logit.")
    found = [] if outputs is None else _rejections(outputs, "validation_confidence" if probabilities else None)
    if found:
        rows = [
            f"| {100 * wanted:g} % | {short_threshold(choice.threshold):.9g} | {100 * choice.coverage:.1f} % | "
            f"{100 * choice.precision:.2f} % ({100 * choice.interval[0]:.1f} to {100 * choice.interval[1]:.1f}) |"
            for wanted, choice in found
        ]
        header = "| wanted precision | accept from | accepted | precision (95 % interval) |"
        parts += [
            f"Thresholds chosen on the {found[0][1].count} validation images. They are optimistic, since they were "
            "chosen on the answers that they were measured on.",
            "\n".join([header, "| ---: | ---: | ---: | ---: |", *rows]),
        ]
    return parts or ["Not measured."]


def _rejections(outputs: Mapping[str, Any], key: str | None) -> list[tuple[float, Rejection]]:
    confidence = outputs[key or "validation_max_logit"].tolist()
    correct = (outputs["validation_labels"] == outputs["validation_predicted"]).tolist()
    found = []
    for wanted in _PRECISIONS:
        try:
            found.append((wanted, threshold_for_precision(confidence, correct, wanted)))
        except InputError:
            continue
    return found


def _strange(ood: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Rejection of images of another kind; nothing where none was measured."""
    if not ood:
        return []
    keys = ("max_logit_ap", "feature_norm_ap", "max_logit_auroc", "feature_norm_auroc", "base_rate")
    rows = [
        f"| {_text(name)} | "
        + " | ".join("–" if measures.get(key) is None else f"{measures[key]:.4f}" for key in keys)
        + " |"
        for name, measures in ood.items()
    ]
    return [
        "## Images of another kind",
        "How well the largest cosine (or logit) and the length of the feature tell test images that were answered "
        "right from images of other sets: average precision (AP; chance gives the base rate) and AUROC.",
        "\n".join(
            [
                "| set | AP, max logit | AP, feature norm | AUROC, max logit | AUROC, feature norm | base rate |",
                "| --- | ---: | ---: | ---: | ---: | ---: |",
                *rows,
            ]
        ),
    ]


def _usage(description: Mapping[str, Any]) -> list[str]:
    module = description["head"].get("module")
    python = ["import logitlab as ll"]
    plugin = ""
    if module:
        python.append(f"import {module}  # registers the head")
        plugin = f" --plugin {module}"
    python += [
        "",
        'predictor = ll.Predictor.load(".")  # the folder of this page',
        'answers = predictor.predict(["photo.png"], threshold=0.9)',
    ]
    if description["link"] == "none":
        python[-1] = 'answers = predictor.predict(["photo.png"])'
    else:
        python.append('probabilities = predictor.predict_proba(["photo.png"])')
    shell = [
        f"logitlab predict . photo.png photos/ --reject-for-precision 0.99{plugin}",
        f"logitlab evaluate . DATA{plugin}",
    ]
    return ["```python\n" + "\n".join(python) + "\n```", "```sh\n" + "\n".join(shell) + "\n```"]


def _recipe(config: Mapping[str, Any]) -> dict[str, Any]:
    split = {key: value for key, value in config["data"].items() if key != "name" and value is not None}
    training = {key: value for key, value in config["training"].items() if value is not None}
    return {"seed": config["seed"], **split, **training}


def _versions(provenance: Mapping[str, Any]) -> list[str]:
    versions = [f"{_text(name)} {_text(str(value))}" for name, value in (provenance.get("versions") or {}).items()]
    keys = ("device", "threads", "platform", "started", "seconds")
    lines = [", ".join(versions)] if versions else []
    found = {key: provenance[key] for key in keys if provenance.get(key) is not None}
    return lines + [f"{key}: {_text(_value(value))}" for key, value in found.items()]


def _limits(data: str, description: Mapping[str, Any]) -> list[str]:
    return [
        f"It answers with one of its {len(description['class_names'])} classes whatever it is shown; images of "
        "something else get one too. A threshold rejects some of these, not all.",
        f"The numbers hold for images like those of {_code(data)}. On others, measure with `logitlab evaluate`.",
        "One class an image. Nothing was measured on the fairness of the answers among groups of people.",
    ]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _keywords(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    """Escape a text of the user's that stands among words."""
    return escape_markdown(" ".join(printable(text).split())).replace("`", "\\`").replace("#", "\\#")


def _code(text: str) -> str:
    """Write a text of the user's as code, in which Markdown finds no mark; longer fences hold its own ticks."""
    plain = " ".join(printable(text).split())
    longest = max((len(run) for run in re.findall("`+", plain)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if plain.startswith("`") or plain.endswith("`") or not plain else ""
    # Code does not protect the bars of a table; no table here holds any.
    return f"{fence}{pad}{plain}{pad}{fence}"
