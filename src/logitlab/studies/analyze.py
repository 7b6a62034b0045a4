"""Analyse trained models side by side: one cached pass over the images each, then every measure asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config.errors import LogitLabError
from ..config.names import unknown_name
from ..records import Store
from ..records.analysis import Analysis, write_analysis
from .analysis_inputs import check_folder, check_sets, open_checkpoints, with_seed
from .analysis_text import analysis_text, failure_lines
from .components import read_device
from .faults import Faults
from .measuring import ALL, choose_measures, give_labels, layered_parts, measure_models
from .plugins import import_plugins

DEFAULT_ANALYSIS_FOLDER = "logitlab-analysis"

#: The page in the folder of an analysis.
PAGE = "report.html"

#: The folder of the passes, in that of an analysis.
_PASSES = "passes"

#: The folder of an analysis, in that of a study.
STUDY_ANALYSIS = "analysis"

_PARTS = ("test", "validation", "train", "all")


@dataclass(frozen=True)
class AnalysisReport:
    """What an analysis found and where it lies. ``print(report)`` shows the table.

    Attributes:
        analysis: every measure of every model.
        folder: holds ``analysis.json``, the page and the passes.
        seconds: how long this call took; passes that were there cost nothing.
        report: the page; None where none was asked for or could be written.
        notices: what the user should know beside the numbers, a sentence each.
    """

    analysis: Analysis = field(repr=False)
    folder: Path
    seconds: float
    report: Path | None = None
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values: what ``analysis.json`` holds."""
        return self.analysis.to_json()

    def to_text(self, width: int | None = None) -> str:
        """Return a table, a row a model, and below it what could not be measured.

        Args:
            width: in characters; a wider table goes on below itself. None for one as wide as it gets.
        """
        return analysis_text(self.analysis, width)

    def __str__(self) -> str:
        return self.to_text()


def analyze(
    checkpoints: str | Path | Sequence[str | Path],
    data: str | Path,
    *,
    measures: Sequence[str] | str = ALL,
    part: str = "test",
    layers: Sequence[str] | str = "auto",
    pooling: str = "mean",
    ood: Sequence[str] | str = (),
    probes: Sequence[str] | str = (),
    control: bool = False,
    limit: int | None = None,
    out: str | Path = DEFAULT_ANALYSIS_FOLDER,
    device: str | None = None,
    data_root: str | Path | None = None,
    plugins: Sequence[str] = (),
    report: bool = True,
    tell: Callable[[str], None] = lambda _: None,
) -> AnalysisReport:
    """Measure trained models on the same images and leave ``analysis.json`` and a page with pictures.

    Each model passes over the images once; features, logits and the outputs of its blocks are kept in ``out/passes``,
    from where a second call, with other measures for instance, reads them, and where a call that was cut off goes on.
    Models may have different backbones and take images of different sizes, to which the images are resized. R²,
    spectra and densities are measured on training images, as in W, and at most 10,000 of them unless ``limit`` says
    otherwise.

    Args:
        checkpoints: folders with ``model.safetensors`` and ``model.json``, or of studies with one trial.
        data: as in :func:`~logitlab.compare`; the classes must be those of the checkpoints.
        measures: ``"all"``, ``"basic"`` (quick ones, a number a model), or names of
            `logitlab.records.analysis.MEASURE_NAMES` and ``BETWEEN_NAMES``. ``"all"`` leaves out ``"probe"``, which
            comes with ``probes``, and ``"corruption"``, whose 75 passes must be asked for by name.
        part: which images: ``"test"``, ``"validation"``, ``"train"`` or ``"all"``.
        layers: modules of the backbones whose outputs are compared; ``"auto"`` for their blocks.
        pooling: feature maps as vectors: ``"mean"`` over space, or ``"flatten"``.
        ood: out-of-distribution sets, as ``logitlab.data.load_ood`` takes them.
        probes: data sets on which a linear classifier is trained on the features.
        control: compare layers with an untrained network's as well (W Figure 3a).
        limit: look at no more images of a part than these; a choice that is always the same.
        out: the folder of the analysis.
        device: a torch device; None for a GPU where there is one.
        data_root: the folder that holds data sets; None for ``$LOGITLAB_DATA``.
        plugins: modules or files that register heads of your own.
        report: write ``out/report.html``.
        tell: receives a sentence now and then.

    Returns:
        the analysis. A measure that fails or is undefined for a model is one of its ``failures``; the others go on.

    Raises:
        ConfigurationError: every fault of the arguments, the checkpoints and the data, before the first pass.
        LogitLabError: no model could be run.
        OSError: the file system refuses.
    """
    began = time.monotonic()
    from ..evaluation.analyses import Request
    from ..evaluation.layers import POOLINGS, check_layers
    from ..evaluation.subjects import Surroundings

    folder, faults, root = Path(out), Faults(), None if data_root is None else str(data_root)
    sets, others = _listed(ood), _listed(probes)
    names: tuple[str, ...] = ()
    place = "cpu"
    with faults:
        import_plugins(plugins)
    with faults:
        names = choose_measures(_listed(measures), probes=others, control=control)
    if part not in _PARTS:
        faults.add(unknown_name("part", str(part), _PARTS))
    if pooling not in POOLINGS:
        faults.add(unknown_name("pooling", str(pooling), POOLINGS))
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        faults.add(f"'limit' must be an int of at least 1. Got {limit!r}.")
    with faults:
        place = read_device(device)
    chosen = _listed(layers) or ("auto",)
    around = Surroundings(
        data=str(data),
        part=part if part in _PARTS else "test",
        root=folder / _PASSES,
        data_root=root,
        device=place,
        layers=chosen,
        layered=layered_parts(names, part),
        pooling="flatten" if pooling == "flatten" else "mean",
        limit=limit,
        tell=tell,
    )
    subjects = open_checkpoints(_listed(checkpoints), around, faults)
    if "auto" in chosen and len(chosen) > 1:
        faults.add(f"The layers are 'auto' or names, not both. Got {', '.join(chosen)}.")
    elif chosen != ("auto",) and subjects:
        with faults:
            check_layers(chosen, [subject.load().backbone for subject in subjects])
    check_sets(subjects, sets, others, root, faults)
    with faults:
        check_folder(folder)
    faults.raise_all()
    give_labels(subjects)
    found = measure_models(subjects, names, Request(ood=sets, probes=others), control=control, tell=tell)
    write_analysis(folder, found)
    result = AnalysisReport(found, folder, 0.0)
    if report:
        result = _with_page(result)
    return replace(result, seconds=time.monotonic() - began)


def analyze_study(
    folder: Path,
    identities: Sequence[str],
    data: str,
    names: Sequence[str],
    *,
    ood: Sequence[str],
    device: str,
    data_root: str | None,
    tell: Callable[[str], None],
) -> Analysis | None:
    """Measure the finished trials of a study on their test images and leave ``analysis/analysis.json`` in its folder.

    Args:
        folder: of the study.
        identities: of its trials; those without a checkpoint are told and left out.
        data: the data set.
        names: of measures, from :func:`~.measuring.choose_measures`.
        ood: out-of-distribution sets.
        device: a torch device.
        data_root: the folder that holds data sets.
        tell: receives a sentence before each model, about those that are left out, and on what was not measured.

    Returns:
        the analysis; None where no trial is finished.

    Raises:
        LogitLabError: no model could be run.
        OSError: the file system refuses.
    """
    from ..evaluation.analyses import Request
    from ..evaluation.subjects import Surroundings, open_subject

    place = folder / STUDY_ANALYSIS
    around = Surroundings(
        data=data,
        part="test",
        root=place / _PASSES,
        data_root=data_root,
        device=device,
        layers=("auto",),
        layered=layered_parts(names, "test"),
        pooling="mean",
        limit=None,
        tell=lambda _: None,
    )
    store = Store(folder)
    subjects = []
    for identity in identities:
        if not store.is_done(identity):
            continue
        try:
            subjects.append(with_seed(open_subject(store.trial_folder(identity), around)))
        except LogitLabError as fault:
            tell(f"Trial {identity} is not measured: {fault}")
    if not subjects:
        return None
    # Seeds of a head side by side, heads in the order of the study.
    heads = list(dict.fromkeys(subject.head_name for subject in subjects))
    subjects.sort(key=lambda subject: heads.index(subject.head_name))
    give_labels(subjects)
    found = measure_models(subjects, names, Request(ood=tuple(ood)), tell=tell)
    write_analysis(place, found)
    for line in failure_lines(found):
        tell(line)
    return found


def _with_page(result: AnalysisReport) -> AnalysisReport:
    """Write the page; an analysis that is done is not lost because its page cannot be written."""
    from ..report.analysis_page import write_analysis_page

    try:
        return replace(result, report=write_analysis_page(result.analysis, result.folder / PAGE))
    except OSError as fault:
        reason = f"The page cannot be written in '{result.folder}': {fault.strerror or fault}."
    except LogitLabError as fault:
        reason = f"The page cannot be written: {fault}"
    return replace(result, notices=(reason,))


def _listed(values: Any) -> tuple[str, ...]:
    """Return one name, or several, as a tuple of texts."""
    return (str(values),) if isinstance(values, (str, Path)) else tuple(map(str, values))
