"""What the report of a study shows: columns beside the paper's, claims with their rules, figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..validation import Configuration

Labels = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


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
            Rows of other images, or at other values of the study's ``grid``, are never compared: a claim holds where it
            holds on each of these settings, and does not where it does not on one.

        measure: the measure it is about.
        better: for ``"best_among"``: which end is best.
        rows: labels of rows; empty for all (but ``than``). For ``"increases"`` and ``"decreases"`` those that have a
            value of ``along``.
        than: label of the head, or of the one row, that the others are compared with.
        along: axis whose values order the rows, such as ``"head.kappa"``.
        paper: the paper's column.
        level: p at and below which a difference is significant.
    """

    text: str = Field(min_length=1)
    source: str = ""
    rule: Literal["above", "below", "increases", "decreases", "best_among", "paper_order"]
    measure: str = Field(min_length=1)
    better: Literal["higher", "lower"] = "higher"
    rows: Annotated[tuple[str, ...], Field(strict=False)] = ()
    than: str | None = None
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
        }[self.rule]
        lacking = [name for name in needed if not getattr(self, name)]
        if lacking:
            raise ValueError(f"a claim with the rule '{self.rule}' needs '{lacking[0]}'. Got none.")
        return self


class FigureConfig(Configuration):
    """One picture of the report.

    Attributes:
        title: what stands above it.
        kind: ``"dots"``: a line a row, a dot a seed; ``"lines"``: measures along an axis, with every seed;
            ``"scatter"``: one measure against another, a dot a row.
        measures: one picture each; for ``"scatter"`` two: across, upwards.
        along: for ``"lines"``: the axis, such as ``"head.kappa"`` or ``"head.tau"``.
        rows: labels; empty for all. For ``"lines"`` rows without a value on the axis are drawn as level lines.
        logarithmic: the horizontal axis is.
    """

    title: str = Field(min_length=1)
    kind: Literal["dots", "lines", "scatter"]
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
