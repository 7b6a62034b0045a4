"""What a study is: entries × grids × seeds, how they are searched, what is measured, and what is claimed of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ..training import TrainingConfig
from ..trial import DataConfig
from ..validation import Configuration
from .execution import ExecutionConfig
from .report import AnalysisConfig, ClaimConfig, ColumnConfig, FigureConfig, PaperConfig
from .search import SearchConfig

#: Axes: ``data``, ``backbone``, ``head.PARAMETER``, ``data.FIELD``, ``backbone.PARAMETER``, ``training.FIELD``.
AXIS_PATTERN = r"^(data|backbone)$|^(head|data|backbone|training)\.[A-Za-z_]\w*$"

#: Names of studies and scales: they name a folder.
NAME_PATTERN = r"^\w[\w.-]*$"

#: More seeds than these are a slip of the keyboard.
MOST_SEEDS = 10_000

Axis = Annotated[str, Field(pattern=AXIS_PATTERN)]
Values = Annotated[tuple[Any, ...], Field(strict=False, min_length=1)]
_Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Annotated[tuple[_Seed, ...], Field(strict=False, min_length=1)]


class DependenceConfig(Configuration):
    """A value that another row of the study gives, such as T's 2κ*.

    Attributes:
        of: label of the row (or of the entry, if it makes one row) whose finished trials are read. Where both rows
            stand at the same value of an axis of the whole study (``grid``), that value's row is read.
        measure: what is read: ``"validation.NAME"`` or ``"selected_epoch"``. The test images may decide nothing.
        statistic: ``"mean"`` or ``"median"`` over the seeds, or ``"same_seed"``: each seed takes its namesake's.
        times: factor.
    """

    of: str
    measure: str = Field(pattern=r"^(validation\.\w+|selected_epoch)$")
    statistic: Literal["mean", "median", "same_seed"] = "mean"
    times: float = 1.0


class EntryConfig(Configuration):
    """A head with all that belongs to it alone; with a grid it makes several rows of the table.

    Attributes:
        head: ``name`` or ``name:key=value``.
        label: what the table calls it; may hold axes in braces, such as ``"κ = {head.kappa:g}"``. None for the head as
            it is written, followed by its axes.
        parameters: of the head, beside those in ``head``.
        training: fields of the recipe that differ from the study's.
        grid: axis → its values; every combination is a row.
        search: how its hyperparameters are found; None for the study's, False for none.
        depends_on: axis → where its value comes from; the entry waits until it is known.
        seeds: how many (0, 1, …), or which; None for the study's.
        paper_row: the row of the paper's table that stands beside it; None for the label.
    """

    head: str = Field(min_length=1)
    label: str | None = Field(None, min_length=1)
    parameters: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    grid: dict[Axis, Values] = Field(default_factory=dict)
    search: SearchConfig | Literal[False] | None = None
    depends_on: dict[Axis, DependenceConfig] = Field(default_factory=dict)
    seeds: Seeds | None = None
    paper_row: str | None = None


class StageConfig(Configuration):
    """What is done with every trained model after its training; in YAML ``NAME`` or ``{NAME: {option: value}}``.

    Attributes:
        name: ``"ood"``, ``"linear_probe"``, ``"fine_tune"``, ``"analyse"``, ``"shift"``, ``"timing"``, or one that a
            plugin registers.
        options: of the stage.
    """

    name: str = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)


class StudyDefinition(Configuration):
    """A whole study, as a YAML file describes it, after the overrides of its scale.

    Attributes:
        name: letters, digits, ``-``, ``_`` and ``.``; the folder of the study is called so.
        title: one line for the report.
        description: what it asks, in Markdown; shown by ``study show`` and in the report.
        source: where it comes from, such as ``"W Table 1; settings W A.1, Table A.2"``.
        scale: which scale it was read at; None for a study without scales.
        plugins: modules or files that register heads, temperatures, measurements, stages or data sets.
        data: the images: a name, or fields of ``DataConfig``.
        backbone: the network below the heads, ``name`` or ``name:key=value``.
        training: fields of ``TrainingConfig`` that all entries share.
        heads: the entries, in the order of the table.
        grid: axis → values, crossed with every entry.
        seeds: how many (0, 1, …), or which.
        search: how hyperparameters are found, for every entry that does not say otherwise.
        select_epoch: ``"last"`` keeps the last epoch, ``"best"`` the one with the best validation accuracy.
        stages: after training, in order.
        columns: of the table; empty for those of ``compare``.
        paper: the paper's own table.
        claims: statements that the study can support or not, each with its rule.
        figures: pictures of the report.
        analysis: what is measured of all models together, after the last trial; None for nothing.
        execution: how it is run; no part of what it is.
    """

    name: str = Field(pattern=NAME_PATTERN)
    title: str = ""
    description: str = ""
    source: str = ""
    scale: str | None = Field(default=None, pattern=NAME_PATTERN)
    plugins: Annotated[tuple[str, ...], Field(strict=False)] = ()
    data: DataConfig = Field(default_factory=lambda: DataConfig.model_validate({}))
    backbone: str = "small_cnn"
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig.model_validate({}))
    heads: Annotated[tuple[EntryConfig, ...], Field(strict=False, min_length=1)]
    grid: dict[Axis, Values] = Field(default_factory=dict)
    seeds: Seeds = 3
    search: SearchConfig | None = None
    select_epoch: Literal["last", "best"] = "last"
    stages: Annotated[tuple[StageConfig, ...], Field(strict=False)] = ()
    columns: Annotated[tuple[ColumnConfig, ...], Field(strict=False)] = ()
    paper: PaperConfig | None = None
    claims: Annotated[tuple[ClaimConfig, ...], Field(strict=False)] = ()
    figures: Annotated[tuple[FigureConfig, ...], Field(strict=False)] = ()
    analysis: AnalysisConfig | None = None
    execution: ExecutionConfig = Field(default_factory=ExecutionConfig)

    @model_validator(mode="after")
    def _check(self) -> StudyDefinition:
        if self.select_epoch == "best" and self.training.early_stopping_epochs is not None:
            raise ValueError("'select_epoch' and 'training.early_stopping_epochs' both choose the epoch; give one.")
        return self

    @property
    def folder_name(self) -> str:
        """What the folder of the study is called: its name, and its scale where it has one."""
        return self.name if self.scale is None else f"{self.name}-{self.scale}"


def seed_numbers(seeds: int | tuple[int, ...]) -> tuple[int, ...]:
    """Return which seeds are meant.

    >>> seed_numbers(3), seed_numbers((7, 9))
    ((0, 1, 2), (7, 9))
    """
    return tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
