"""From models and the names of measures to an analysis: what cannot be measured is said, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..config.errors import ConfigurationError, LogitLabError
from ..config.names import printable, unknown_name
from ..records.analysis import (
    BETWEEN_NAMES,
    MEASURE_NAMES,
    AnalysedData,
    AnalysedModel,
    Analysis,
    AnalysisFailure,
)

if TYPE_CHECKING:
    from ..evaluation.analyses import Request
    from ..evaluation.subjects import Subject

ALL, BASIC = "all", "basic"

#: One number a model, quick to compute.
BASIC_MEASURES = ("accuracy", "calibration", "separation", "class_angle", "span_angle", "rank", "misclassification")

#: Run only when named: corrupted images take 75 passes, and a probe needs another data set.
COSTLY_MEASURES = ("probe", "corruption")

#: Parts of which measures need the layers, ``"part"`` being the part asked for.
_LAYERED = {"separation_by_layer": "train", "sparsity_by_layer": "part", "cka": "part"}

# A map takes longer than all other measures of a model together.
_FEW_MAPS = "Of more than {} models only the first of each {} gets a map; name fewer for the others."

_SEVERAL = frozenset({"agreement", "clustering", "ensembles"})


def choose_measures(
    names: Sequence[str] | str, *, probes: Sequence[str] = (), control: bool = False
) -> tuple[str, ...]:
    """Return the measures that names stand for, in the order of the page.

    Args:
        names: ``"all"`` (everything but ``COSTLY_MEASURES``), ``"basic"``, or names of measures, those that users
            registered included.
        probes: data sets for a linear probe; the measure ``"probe"`` comes with them.
        control: the control of W Figure 3a, which belongs to ``"cka"``.

    Raises:
        ConfigurationError: a name is unknown, or a measure lacks what it needs; one sentence each.

    >>> choose_measures(["rank", "accuracy"])
    ('accuracy', 'rank')
    """
    from ..evaluation.measurements import MEASUREMENTS

    given = [names] if isinstance(names, str) else list(names)
    known = (*MEASURE_NAMES, *MEASUREMENTS.names(), *BETWEEN_NAMES)
    wanted: set[str] = set()
    faults = []
    for name in given:
        if name == ALL:
            wanted |= set(known) - set(COSTLY_MEASURES)
        elif name == BASIC:
            wanted |= set(BASIC_MEASURES)
        elif name in known:
            wanted.add(name)
        else:
            faults.append(unknown_name("measure", name, (ALL, BASIC, *known)))
    if probes:
        wanted.add("probe")
    elif "probe" in wanted:
        faults.append(
            "The measure 'probe' needs another data set. Give it to 'logitlab analyze' by --probe DATA (probes=[…])."
        )
    if control:
        wanted.add("cka")
    if not given:
        faults.append(f"Name at least one measure: {ALL}, {BASIC}, {', '.join(known)}.")
    if faults:
        raise ConfigurationError(faults)
    return tuple(name for name in known if name in wanted)


def layered_parts(names: Sequence[str], part: str) -> frozenset[str]:
    """Return the parts whose passes shall keep layers."""
    needed = {_LAYERED[name] for name in names if name in _LAYERED}
    return frozenset(part if each == "part" else each for each in needed)


def give_labels(subjects: Sequence[Subject]) -> None:
    """Call each model by its head, with its backbone, seed and place where heads share a name."""
    for size in range(1, 5):
        for place, subject in enumerate(subjects):
            backbones = {other.backbone_name for other in subjects if other.head_name == subject.head_name}
            parts = [subject.head_name]
            if size > 1 and len(backbones) > 1:
                parts.append(subject.backbone_name)
            if size > 2 and subject.seed is not None:
                parts.append(f"seed {subject.seed}")
            if size > 3:
                parts.append(f"model {place + 1}")
            subject.label = printable(", ".join(parts))
        labels = [subject.label for subject in subjects]
        if len(set(labels)) == len(labels):
            return


def measure_models(
    subjects: Sequence[Subject],
    names: Sequence[str],
    request: Request,
    *,
    control: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Analysis:
    """Measure every model, then what lies between them.

    Args:
        subjects: the models; they have labels.
        names: of measures, from :func:`choose_measures`. Where all are asked for, those that are made for some models
            (``evaluation.analyses.PARTICULAR``) are passed over in silence for the others; where some are named, a
            model that one does not suit is one of the failures.
        request: what else was asked for.
        control: compare each model with W Figure 3a's control.
        tell: receives a sentence now and then.

    Raises:
        LogitLabError: no model could be run.
        OSError: the file system refuses.
    """
    from ..evaluation.analyses import PARTICULAR, find_measures, out_of_distribution, plain_entry
    from ..evaluation.between import MOST_MODELS, representatives

    functions = find_measures()
    failures: list[AnalysisFailure] = []
    measures: dict[str, dict[str, dict[str, Any]]] = {}
    ood: dict[str, dict[str, dict[str, dict[str, float | None]]]] = {}
    alive: list[Subject] = []

    def attempt(label: str | None, name: str, function: Callable[[], Any], what: str = "") -> Any:
        try:
            return function()
        except OSError:
            raise
        except Exception as fault:  # one measure that fails must not take the others along
            failures.append(
                AnalysisFailure(
                    model=label, measure=name, message=f"{what}: {_sentence(fault)}" if what else _sentence(fault)
                )
            )
            return None

    # Who asks for all asks for nothing in particular.
    silent = PARTICULAR if set(choose_measures(ALL)) <= set(names) else {}
    mapped = representatives(subjects)
    if "tsne" in names and len(mapped) < len(subjects):
        group = "row" if any(subject.group for subject in subjects) else "head and backbone"
        failures.append(AnalysisFailure(model=None, measure="tsne", message=_FEW_MAPS.format(MOST_MODELS, group)))
    for subject in subjects:
        if attempt(subject.label, "pass", lambda subject=subject: subject.measured) is None:  # type: ignore[misc]
            continue
        alive.append(subject)
        tell(f"{subject.label}: measuring.")
        for name in names:
            if name not in functions or (name == "tsne" and not any(subject is each for each in mapped)):
                continue
            if name in silent and silent[name](subject) is not None:
                continue
            found = attempt(
                subject.label,
                name,
                lambda subject=subject, name=name: plain_entry(functions[name](subject, request)),  # type: ignore[misc]
            )
            if found is not None:
                measures.setdefault(name, {})[subject.label] = found
        for title in request.ood:
            strange = attempt(
                subject.label,
                f"ood {title}",
                lambda subject=subject, title=title: out_of_distribution(subject, title),  # type: ignore[misc]
            )
            if strange is not None:
                ood.setdefault(subject.label, {})[printable(title)] = strange
    if not alive:
        raise LogitLabError(f"No model could be run. {failures[0].model}: {failures[0].message}")
    between = _between(alive, names, control, attempt)
    first = subjects[0]
    data = first.data()
    return Analysis(
        data=AnalysedData(
            name=data.name,
            fingerprint=data.fingerprint,
            part=first.around.part,
            images=alive[0].measured.rows,
            class_names=data.class_names,
        ),
        models=tuple(_model(subject, subject in alive) for subject in subjects),
        measures=measures,
        between=between,
        ood=ood,
        failures=tuple(failures),
    )


def _between(
    subjects: Sequence[Subject], names: Sequence[str], control: bool, attempt: Callable[..., Any]
) -> dict[str, Any]:
    from ..evaluation import between

    functions: dict[str, Callable[[], Any]] = {
        "cka": lambda: _cka(subjects, control, attempt),
        "agreement": lambda: between.agreement(subjects),
        "clustering": lambda: between.clustering(subjects),
        "ensembles": lambda: between.ensembles(subjects),
    }
    wanted = [name for name in functions if name in names and (len(subjects) > 1 or name not in _SEVERAL)]
    first = subjects[0]
    differ = first.around.part in ("train", "validation") and len({each.split_rule for each in subjects}) > 1
    found = {}
    for name in wanted:
        if name == "ensembles" and len({each.group_key for each in subjects}) == len(subjects):
            # Nobody asked for ensembles of one model each; their absence is no fault.
            continue
        if differ:
            fault = f"The models were trained on different splits, so their {first.around.part} images differ."
            attempt(None, name, lambda fault=fault: _refuse(fault))
            continue
        value = attempt(None, name, functions[name])
        if value:
            found[name] = value
    return found


def _cka(subjects: Sequence[Subject], control: bool, attempt: Callable[..., Any]) -> list[dict[str, Any]]:
    """Compare every pair; one that fails is told by its name."""
    from ..evaluation import between

    found = []
    for pair, compare in between.cka(subjects, control=control):
        value = attempt(None, "cka", compare, pair)
        if value is not None:
            found.append(value)
    return found


def _model(subject: Subject, ran: bool) -> AnalysedModel:
    from ..evaluation.analyses import right

    kappa = subject.head.kappa
    return AnalysedModel(
        label=subject.label,
        checkpoint=printable(str(subject.folder)),
        head=printable(subject.head_name),
        backbone=printable(subject.backbone_name),
        kappa=None if kappa is None else float(kappa),
        kappa_star=float(subject.measured["kappa_star"].mean(dtype="float64")) if ran else None,
        seed=subject.seed,
        identity=subject.identity,
        accuracy=float(right(subject.measured).mean()) if ran else None,
        image_size=subject.description.image_size,
        num_features=subject.description.num_features,
        layers=subject.measured.layers if ran else (),
    )


def _refuse(message: str) -> None:
    raise LogitLabError(message)


def _sentence(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    if isinstance(fault, LogitLabError):
        return text
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
