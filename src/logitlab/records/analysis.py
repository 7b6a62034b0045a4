"""What ``logitlab analyze`` measured on one or more models: ``analysis.json``. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from ..config.errors import RecordError
from ..config.names import printable
from ..config.validation import Configuration
from .files import write_atomic

ANALYSIS_VERSION: Final = 1

#: The file in the folder of an analysis.
ANALYSIS_FILE: Final = "analysis.json"

#: Measures of one model, keys of ``Analysis.measures``, in the order of the page.
MEASURE_NAMES: Final = (
    "accuracy",
    "calibration",
    "reliability",
    "separation",
    "separation_by_layer",
    "sparsity_by_layer",
    "class_angle",
    "span_angle",
    "angle_histogram",
    "rank",
    "spectra",
    "densities",
    "hardness",
    "hull",
    "misclassification",
    "precision_recall",
    "risk_coverage",
    "tsne",
    "plane",
    "loss_by_cosine",
    "sparse_softmax",
    "probe",
    "corruption",
)

#: Measures between models, keys of ``Analysis.between``.
BETWEEN_NAMES: Final = ("cka", "agreement", "clustering", "ensembles")


class AnalysedData(Configuration):
    """The images that models were measured on.

    Attributes:
        name: of the data set.
        fingerprint: of its images and labels.
        part: ``"test"``, ``"validation"``, ``"train"`` or ``"all"``.
        images: how many of that part were looked at.
        class_names: one name a class.
    """

    name: str
    fingerprint: str
    part: str
    images: int = Field(ge=1)
    class_names: tuple[str, ...]


class AnalysedModel(Configuration):
    """One model of an analysis.

    Attributes:
        label: what tables and pictures call it; no two models of an analysis share one.
        checkpoint: its folder, as the user named it.
        head: its head as it is written on a command line.
        backbone: its backbone, likewise.
        kappa: what inference scales by; None for a head without temperature.
        kappa_star: mean κ* by least squares on the images; None where the pass failed.
        seed: of its trial; None where no record says so.
        identity: of its trial; None likewise.
        accuracy: top-1 on the images, a fraction; None where the pass failed.
        image_size: side of the images that it takes, in pixels.
        num_features: D.
        layers: names of the layers whose outputs were kept, from the input to the features; those of the control too.
    """

    label: str
    checkpoint: str
    head: str
    backbone: str
    kappa: float | None = None
    kappa_star: float | None = None
    seed: int | None = None
    identity: str | None = None
    accuracy: float | None = None
    image_size: int | None = None
    num_features: int | None = None
    layers: tuple[str, ...] = ()


class AnalysisFailure(Configuration):
    """What could not be measured.

    Attributes:
        model: label of the model; None for a measure between models.
        measure: the name that was asked for.
        message: why, in one sentence.
    """

    model: str | None
    measure: str
    message: str


class Analysis(Configuration):
    """What an analysis found; numbers that are undefined are None.

    Attributes:
        version: of this form.
        data: the images.
        models: in the order given.
        measures: name of a measure (see ``MEASURE_NAMES``) → label of a model → at least ``value`` (a number or None)
            and ``convention``; most hold what the ``to_json`` of their `logitlab.analysis` result gives.
        between: ``cka`` (a list of ``first``, ``second``, ``rows``, ``columns``, ``value``, one a pair of models, a
            model with itself included; the control of a model is called ``"LABEL (control)"``), ``agreement`` (a list
            of ``names``, ``kind``, ``value``, one a kind), ``clustering`` (``names``, ``linkage``, ``order``,
            ``value``), ``ensembles`` (``names``, ``value``, ``size``). What was not asked for, or needs more models,
            is missing.
        ood: label of a model → set of images → confidence score → ``ap``, ``auroc``, ``fpr95``, ``base_rate``.
        failures: what could not be measured.
    """

    version: Literal[1] = ANALYSIS_VERSION
    data: AnalysedData
    models: tuple[AnalysedModel, ...] = Field(min_length=1)
    measures: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    between: dict[str, Any] = Field(default_factory=dict)
    ood: dict[str, dict[str, dict[str, dict[str, float | None]]]] = Field(default_factory=dict)
    failures: tuple[AnalysisFailure, ...] = ()

    @model_validator(mode="after")
    def _labels_are_known(self) -> Analysis:
        labels = [model.label for model in self.models]
        if len(set(labels)) < len(labels):
            raise ValueError("two models share a label")
        used = {label for found in (*self.measures.values(), self.ood) for label in found}
        if strange := sorted(used - set(labels)):
            raise ValueError(f"it measures '{strange[0]}', which is none of its models")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return self.model_dump(mode="json")


def write_analysis(folder: Path | str, analysis: Analysis) -> Path:
    """Write ``analysis.json`` whole, or not at all.

    Args:
        folder: where it shall stand; made when missing.
        analysis: what was found.

    Returns:
        the path of the file.

    Raises:
        RecordError: it holds NaN, infinity, or what JSON has no form for.
        OSError: the file system refuses.
    """
    path = Path(folder) / ANALYSIS_FILE
    try:
        text = analysis_text(analysis)
    except (TypeError, ValueError) as fault:
        raise RecordError(f"Cannot write '{path}' as JSON: {' '.join(str(fault).split())}.") from fault
    write_atomic(path, lambda file: file.write(text.encode()))
    return path


def analysis_text(analysis: Analysis) -> str:
    """Return the text of the file: JSON, a line for each key of its first two levels.

    Thousands of points would otherwise take a line each.

    Raises:
        ValueError: a number is NaN or infinite.
    """

    def compact(value: Any) -> str:
        return json.dumps(value, allow_nan=False)

    lines = []
    for key, value in analysis.model_dump().items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"  {compact(name)}: {compact(entry)}" for name, entry in value.items())
            lines.append(f" {compact(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {compact(key)}: {compact(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def read_analysis(folder: Path | str) -> Analysis:
    """Read what :func:`write_analysis` wrote.

    Args:
        folder: that holds ``analysis.json``, or the file itself.

    Raises:
        RecordError: the file is missing, damaged, or of a newer version.
    """
    path = Path(folder)
    if path.name != ANALYSIS_FILE or path.is_dir():
        path = path / ANALYSIS_FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"There is no '{path}'. 'logitlab analyze' makes one.") from None
    except OSError as fault:
        raise RecordError(f"Cannot read '{path}': {fault.strerror or fault}.") from fault
    try:
        values = json.loads(content)
    except ValueError as fault:
        raise RecordError(f"Cannot read '{path}': it is not whole JSON ({fault}).") from fault
    version = values.get("version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > ANALYSIS_VERSION:
        raise RecordError(f"'{path}' has version {version}; this LogitLab reads up to {ANALYSIS_VERSION}. Update it.")
    try:
        return Analysis.model_validate_json(content)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"'{printable(str(path))}' is damaged: {where + ': ' if where else ''}{reason}.") from None
