"""What the report of a study shows: columns beside the paper's, claims with their rules, figures, an analysis."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from ..validation import Configuration

Labels = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]

#: What the history of a trial holds of each epoch, beside its number and its learning rate.
HISTORY_KEYS: Final = ("loss", "accuracy", "validation_loss", "validation_accuracy", "kappa", "kappa_star")

#: What a figure through the epochs can show: these, and what is missing to an accuracy of 1.
HISTORY_MEASURES: Final = (*HISTORY_KEYS, "error", "validation_error", "learning_rate")


class ColumnConfig(Configuration):
    """One column of the table.

    Attributes:
        measure: key of a measure of a trial, such as ``"test.accuracy"`` or ``"linear_probe.gtsrb.accuracy"``.
        title: its heading.
        factor: what the measure is multiplied by (100 for per cent).
        decimals: digits after the point.
        better: which end is best; None where neither is, and nothing is bold.
        paper: the paper's column that stands beside it; None for none.
    """

    measure: str = Field(min_length=1)
    title: str = Field(min_length=1)
    factor: float = 1.0
    decimals: int = Field(2, ge=0, le=8)
    better: Literal["higher", "lower"] | None = None
    paper: str | None = None


class PaperConfig(Configuration):
    """The paper's own numbers; they never share a column with ours.

    Attributes:
        table: name of a data file of LogitLab (such as ``"w-table-1"``), or path of a CSV file with the columns
            ``table,row,column,value,error,bold``.
        title: what the report calls it, such as ``"W Table 1"``.
        setting: what the paper measured on, such as ``"ImageNet, ResNet-50, 8 seeds"``.
        columns: which of its columns are shown, in this order; empty for all.
        bold: the paper's rule, as the report states it.
    """

    table: str
    title: str
    setting: str = ""
    columns: Annotated[tuple[str, ...], Field(strict=False)] = ()
    bold: str = "not significantly different from the best (p > 0.05, t-test)"


class ClaimConfig(Configuration):
    """A statement of the paper and the rule that decides it, written before the study runs.

    Attributes:
        text: the statement, in a sentence.
        source: where the paper says it, such as ``"W §3.1"``.
        rule: what must be shown, always on our own numbers:

            - ``"above"``, ``"below"``: the mean of each of ``rows`` lies above (below) that of ``than``, by paired
              t-tests over seeds, Holm-corrected over the rows. *Holds* when all differences are significant in this
              direction, *does not* when one is significant in the other; *not decided* otherwise.
            - ``"increases"``, ``"decreases"``: the means over ``rows`` rise (fall) along ``along``: Spearman's ρ with
              its exact permutation p. *Does not* when the other direction is significant.
            - ``"best_among"``: the best row is one of ``rows``. *Holds* when no row outside them is without
              significant difference from the best, *does not* when no row of them is.
            - ``"paper_order"``: Spearman's ρ between our column and the paper's ``paper`` is positive, with its p.
            - ``"exceeds"``: ``measure`` of the models of ``rows`` is larger than ``than_measure`` of the same models,
              by one paired t-test over the models. *Does not* when it is significantly smaller.

            Rows of other images, or at other values of the study's ``grid``, are never compared: a claim holds where it
            holds on each of these settings, and does not where it does not on one.

        measure: the measure it is about.
        better: for ``"best_among"``: which end is best.
        rows: labels of rows; empty for all (but ``than``). For ``"increases"`` and ``"decreases"`` those that have a
            value of ``along``.
        than: label of the head, or of the one row, that the others are compared with.
        than_measure: for ``"exceeds"``: the other measure.
        along: axis whose values order the rows, such as ``"head.kappa"``.
        paper: the paper's column.
        level: p at and below which a difference is significant.
    """

    text: str = Field(min_length=1)
    source: str = ""
    rule: Literal["above", "below", "increases", "decreases", "best_among", "paper_order", "exceeds"]
    measure: str = Field(min_length=1)
    better: Literal["higher", "lower"] = "higher"
    rows: Annotated[tuple[str, ...], Field(strict=False)] = ()
    than: str | None = None
    than_measure: str | None = None
    along: str | None = None
    paper: str | None = None
    level: float = Field(0.05, gt=0, lt=1)

    @model_validator(mode="after")
    def _check(self) -> ClaimConfig:
        needed = {
            "above": ("than",),
            "below": ("than",),
            "increases": ("along",),
            "decreases": ("along",),
            "best_among": ("rows",),
            "paper_order": ("paper",),
            "exceeds": ("than_measure",),
        }[self.rule]
        lacking = [name for name in needed if not getattr(self, name)]
        if lacking:
            raise ValueError(f"a claim with the rule '{self.rule}' needs '{lacking[0]}'. Got none.")
        return self


class AnalysisConfig(Configuration):
    """What is measured of all models of the study together, after the last trial, and drawn in its report.

    Attributes:
        measures: names of `logitlab.records.analysis.MEASURE_NAMES` and ``BETWEEN_NAMES``, of measurements that a
            plugin registers, or ``"all"`` and ``"basic"`` as ``logitlab analyze`` takes them.
        part: which images the models look at; what is measured on training images always is.
        limit: look at no more images of a part than these, training images included; a choice that is always the same.
        control: compare layers with an untrained network's as well (W Figure 3a); brings ``"cka"`` along.
        ood: out-of-distribution sets, as ``logitlab analyze`` takes them.
        rows: labels of rows, or of entries for all of their rows; empty for all.
        seeds: at most so many models of each row, those of its first seeds; None for all.
    """

    measures: Labels
    part: Literal["test", "validation", "train"] = "test"
    limit: int | None = Field(None, ge=1)
    control: bool = False
    ood: Annotated[tuple[str, ...], Field(strict=False)] = ()
    rows: Annotated[tuple[str, ...], Field(strict=False)] = ()
    seeds: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> AnalysisConfig:
        for name in ("measures", "ood", "rows"):
            given: tuple[str, ...] = getattr(self, name)
            twice = [each for place, each in enumerate(given) if each in given[:place]]
            if twice:
                raise ValueError(f"'{name}' names '{twice[0]}' twice. Name each once.")
        return self


class FigureConfig(Configuration):
    """One picture of the report.

    Attributes:
        title: what stands above it.
        kind: ``"dots"``: a line a row, a dot a seed; ``"lines"``: measures along an axis, with every seed;
            ``"scatter"``: one measure against another, a dot a row; ``"epochs"``: a line a row through the epochs.
        measures: one picture each; for ``"scatter"`` two: across, upwards; for ``"epochs"`` of ``HISTORY_MEASURES``.
        along: for ``"lines"``: the axis, such as ``"head.kappa"`` or ``"head.tau"``.
        rows: labels; empty for all. For ``"lines"`` rows without a value on the axis are drawn as level lines.
        logarithmic: the horizontal axis is; for ``"epochs"`` the vertical one.
    """

    title: str = Field(min_length=1)
    kind: Literal["dots", "lines", "scatter", "epochs"]
    measures: Labels
    along: str | None = None
    rows: Annotated[tuple[str, ...], Field(strict=False)] = ()
    logarithmic: bool = False

    @model_validator(mode="after")
    def _check(self) -> FigureConfig:
        if self.kind == "lines" and not self.along:
            raise ValueError("a figure of the kind 'lines' needs 'along'. Got none.")
        if self.kind == "scatter" and len(self.measures) != 2:
            raise ValueError(f"a figure of the kind 'scatter' needs two measures. Got {len(self.measures)}.")
        return self
