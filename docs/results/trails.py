"""From a row or a column of a study to its code and to the equation in the paper.

Heads are asked what they are made of. For measures, the function that measures is named here; the paper's place is read
in its documentation, below ``References``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from logitlab.config.specification import parse_specification
from logitlab.heads import NAMED_HEADS, Head, create_head

REPOSITORY = Path(__file__).resolve().parents[2]

_PACKAGE = "src/logitlab"

#: How the key of a measure begins → file and function that measure it. The longest beginning that fits counts.
MEASURES: dict[str, tuple[str, str]] = {
    "test.accuracy": ("analysis/accuracy.py", "accuracy"),
    "test.nll": ("analysis/calibration.py", "negative_log_likelihood"),
    "test.ece": ("analysis/calibration.py", "expected_calibration_error"),
    "test.class_separation": ("analysis/separation.py", "class_separation"),
    "test.class_angle": ("analysis/angles.py", "class_angle"),
    "test.miss_ap": ("analysis/confidence.py", "misclassification_ap"),
    "test.kappa_star": ("analysis/feature_scores.py", "kappa_star"),
    "test.kappa": ("heads/head.py", "Head"),
    "first_epoch": ("training/fitting.py", "EpochRecord"),
    "last_epoch": ("training/fitting.py", "EpochRecord"),
    "analyse.accuracy": ("analysis/accuracy.py", "accuracy"),
    "analyse.calibration": ("analysis/temperature_scaling.py", "temperature_scaling"),
    "analyse.separation": ("analysis/separation.py", "class_separation"),
    "analyse.separation_by_layer": ("analysis/separation.py", "separation_by_layer"),
    "analyse.sparsity_by_layer": ("analysis/sparsity.py", "activation_sparsity"),
    "analyse.class_angle": ("analysis/angles.py", "class_angle"),
    "analyse.span_angle": ("analysis/angles.py", "span_angle"),
    "analyse.rank": ("analysis/rank.py", "feature_rank"),
    "analyse.misclassification": ("analysis/confidence.py", "misclassification_ap"),
    "analyse.corruption": ("analysis/corruption_error.py", "mean_corruption_error"),
    "analyse.densities": ("analysis/densities.py", "cosine_densities"),
    "analyse.loss_by_cosine": ("analysis/loss_by_cosine.py", "loss_by_cosine"),
    "analyse.sparse_softmax": ("analysis/sparse_softmax.py", "sparse_softmax"),
    "analyse.spectra": ("analysis/spectra.py", "singular_values"),
    "analyse.hardness": ("analysis/hardness.py", "angular_visual_hardness"),
    "analysis.agreement": ("analysis/agreement.py", "agreement_matrix"),
    "analysis.ensembles": ("analysis/ensembles.py", "mixed_ensembles"),
    "analysis.cka": ("analysis/cka.py", "cka_matrix"),
    "analysis.ood": ("analysis/ood.py", "ood_ap"),
    "ood": ("analysis/ood.py", "ood_ap"),
    "shift": ("analysis/accuracy.py", "accuracy"),
    "timing": ("training/stages/timing.py", "timing"),
    "linear_probe": ("analysis/linear_probe.py", "linear_probe"),
}
# Of what is no formula: where the paper speaks of it.
_SOURCES = {
    "Head": "T (2): the κ that inference scales by",
    "timing": "TS Table 11",
    "EpochRecord": "T Figure 1: κ at the end of an epoch; L Figures 6 and 7: error over training",
}
# What is measured on validation images is measured in the same way.
MEASURES |= {key.replace("test.", "validation.", 1): value for key, value in MEASURES.items() if key[:5] == "test."}


@dataclass(frozen=True)
class Trail:
    """Where something comes from.

    Attributes:
        file: of the code, from the root of the repository.
        line: where the function or class begins.
        name: of the function or class.
        source: the paper's place; empty where its documentation names none.
    """

    file: str
    line: int
    name: str
    source: str

    def link(self, up: str) -> str:
        """Return a link in Markdown; ``up`` leads from the page to the root of the repository."""
        return f"[`{self.name}`]({up}{self.file}#L{self.line})"


def measure_trail(measure: str) -> Trail:
    """Return where a measure is made.

    Args:
        measure: its key, such as ``"analyse.calibration.nll_after"``.

    Raises:
        KeyError: nobody has said who measures it.
    """
    parts = measure.split(".")
    for end in range(len(parts), 0, -1):
        if (key := ".".join(parts[:end])) in MEASURES:
            file, name = MEASURES[key]
            return _trail(f"{_PACKAGE}/{file}", name)
    raise KeyError(f"No function is named for the measure '{measure}': add it to MEASURES.")


def head_trails(head: str, parameters: Mapping[str, Any] | None = None) -> tuple[str, str, list[Trail]]:
    """Return of a head as a study writes it: its name, the paper's place, and the classes that it is made of.

    Args:
        head: ``name`` or ``name:key=value``.
        parameters: of the head, beside those in ``head``.
    """
    written = parse_specification(head)
    made = create_head(written.name, 8, 10, **{**written.parameters, **(parameters or {})})
    parts = [getattr(made, name, None) for name in ("loss_function", "margin", "temperature")]
    classes = [type(part) for part in parts if isinstance(part, torch.nn.Module)]
    if type(made) is not Head:
        classes.insert(0, type(made))
    named = NAMED_HEADS.get(written.name)
    return written.name, "" if named is None else named.source, [_class_trail(each) for each in classes]


def _class_trail(kind: type) -> Trail:
    file = Path(inspect.getsourcefile(kind) or "").resolve().relative_to(REPOSITORY).as_posix()
    return _trail(file, kind.__name__)


@cache
def _trail(file: str, name: str) -> Trail:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            source = _SOURCES.get(name) or _source(ast.get_docstring(node) or "")
            return Trail(file, node.lineno, name, source)
    raise LookupError(f"'{file}' has no '{name}'.")


def _source(text: str) -> str:
    """Return the first sentence below ``References``, or the first place of a paper that the text names."""
    below = re.search(r"^\s*References:\s*\n(.*?)(?:\n\s*\n|\Z)", text, re.MULTILINE | re.DOTALL)
    if below:
        return " ".join(below.group(1).split()).split("; ")[0].rstrip(".")
    place = re.search(r"\b(?:W|TS|T|L|G) (?:§|Eqs?\.|Table|Figure|\()(?:[^.;]|(?<=Eq)\.|(?<=Eqs)\.)*", text)
    return place.group(0).strip() if place else ""
