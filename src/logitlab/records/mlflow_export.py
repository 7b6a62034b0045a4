"""The trials of studies as runs of MLflow: an experiment a study, a run a trial. No torch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..config.errors import ConfigurationError
from ..config.names import printable
from .study_trials import StudyTrial, is_number

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE: Final = "mlflow.db"

#: Tags by which a trial is known again: whose run it is, and a digest of all that was written, set last.
ROW, IDENTITY, DIGEST = "logitlab.row", "logitlab.identity", "logitlab.digest"

# What MLflow takes at most in one request, and as one value.
_METRICS, _PARAMETERS, _LETTERS = 800, 100, 6000
_FINISHED, _FAILED = "FINISHED", "FAILED"


def tracking_uri(output: str | Path) -> str:
    """Return the address of the store that ``output`` means.

    Args:
        output: a folder, which gets ``mlflow.db``; a file, which becomes an SQLite data base; or an address with
            ``://``, such as a tracking server's, which is taken as it is.

    Raises:
        ConfigurationError: the file cannot be written.
    """
    text = str(output)
    if "://" in text:
        return text
    path = Path(output)
    try:
        if path.is_dir():
            path = path / DATABASE
        elif not path.parent.is_dir():
            raise ConfigurationError(f"Cannot write '{path}': there is no folder '{path.parent}'. Make it first.")
        if not os.access(path.parent, os.W_OK):
            raise ConfigurationError(f"Cannot write '{path}': the folder '{path.parent}' takes no files.")
    except OSError as fault:
        raise ConfigurationError(f"Cannot write '{path}': {fault.strerror or fault}. Give another place.") from None
    return f"sqlite:///{path.resolve()}"


def check_mlflow() -> None:
    """See that MLflow is installed, with what its SQLite store needs.

    Raises:
        ConfigurationError: saying what to install.
    """
    try:
        import alembic  # noqa: F401
        import mlflow  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as fault:
        raise ConfigurationError(
            f"The export to MLflow needs '{fault.name}'. Install it with: pip install 'logitlab[mlflow]', or take "
            "--to csv."
        ) from None


def export_mlflow(trials: Sequence[StudyTrial], output: str | Path) -> tuple[str, int, int]:
    """Write trials into a store of MLflow; what stands there already, unchanged, is left alone.

    A run holds the configuration of its trial as parameters, every number as a metric, the history with the epoch as
    its step (``epoch.loss`` and so on), and as tags its row, seed, role, identity and versions. A failed trial is a
    failed run with its cause as a tag. A run whose trial has changed since, or that was cut off, is replaced.

    Args:
        trials: of one study or several.
        output: see :func:`tracking_uri`.

    Returns:
        the address of the store; how many runs were written; how many stood there.

    Raises:
        ConfigurationError: MLflow is not installed, or its store refuses.
    """
    uri = tracking_uri(output)
    check_mlflow()
    written = kept = 0
    with _quiet():
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            client = MlflowClient(tracking_uri=uri)
            for study in dict.fromkeys(trial.study for trial in trials):
                experiment = _experiment(client, study, uri)
                known = _known(client, experiment)
                for trial in (each for each in trials if each.study == study):
                    new = _write(client, experiment, trial, known.get((trial.plan.row, trial.plan.identity), []))
                    written, kept = written + new, kept + (not new)
        except MlflowException as fault:
            reason = str(fault).strip().splitlines()
            raise ConfigurationError(
                f"MLflow's store '{uri}' refuses: {reason[0] if reason else type(fault).__name__} Give --output a file "
                "for an SQLite data base, or the address of a tracking server."
            ) from None
    return uri, written, kept


def _experiment(client: MlflowClient, study: str, uri: str) -> str:
    found = client.get_experiment_by_name(study)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    # Otherwise MLflow names a folder below the current one.
    beside = Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts" if uri.startswith("sqlite:///") else None
    return str(client.create_experiment(study, artifact_location=None if beside is None else beside.as_uri()))


def _known(client: MlflowClient, experiment: str) -> dict[tuple[str, str], list[tuple[str, str | None]]]:
    """Return (row, identity) → runs with their digests."""
    known: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        for run in page:
            tags = run.data.tags
            if IDENTITY in tags:
                known.setdefault((tags.get(ROW, ""), tags[IDENTITY]), []).append((run.info.run_id, tags.get(DIGEST)))
        token = page.token
        if not token:
            return known


def _write(client: MlflowClient, experiment: str, trial: StudyTrial, known: list[tuple[str, str | None]]) -> bool:
    """Write one run, unless it stands there; say whether."""
    from mlflow.entities import Metric, Param, RunTag

    provenance = trial.record.get("provenance", {})
    began, ended = _milliseconds(provenance.get("started")), _milliseconds(provenance.get("finished"))
    parameters = {name: str(value)[:_LETTERS] for name, value in _flat(trial.record["config"]).items()}
    tags = _tags(trial)
    metrics = [(_name(key), value, 0) for key, value in trial.measures.items() if is_number(value)]
    metrics += [
        (_name(f"epoch.{key}"), value, int(epoch["epoch"]))
        for epoch in trial.history
        for key, value in epoch.items()
        if key != "epoch" and is_number(value)
    ]
    digest = hashlib.sha256(json.dumps([parameters, tags, metrics], sort_keys=True).encode()).hexdigest()
    whole = [run for run, written in known if written == digest]
    for run, _ in known:
        if run not in whole[:1]:
            client.delete_run(run)
    if whole:
        return False
    run = client.create_run(experiment, start_time=began, tags=tags, run_name=printable(trial.title)).info.run_id
    when = ended or began or 0
    values = [Metric(key, float(value), when, step) for key, value, step in metrics]
    params = [Param(_name(key), value) for key, value in parameters.items()]
    client.set_terminated(run, status=_FAILED if trial.failed else _FINISHED, end_time=ended)
    parts = max(-(-len(params) // _PARAMETERS), -(-len(values) // _METRICS), 1)
    for part in range(parts):
        client.log_batch(
            run,
            metrics=values[part * _METRICS : (part + 1) * _METRICS],
            params=params[part * _PARAMETERS : (part + 1) * _PARAMETERS],
            # Tags come last: whoever ends in between has left no digest, and the next export begins anew.
            tags=[RunTag(DIGEST, digest)] if part == parts - 1 else [],
        )
    return True


def _tags(trial: StudyTrial) -> dict[str, str]:
    plan, record = trial.plan, trial.record
    found = {
        ROW: plan.row,
        IDENTITY: plan.identity,
        "logitlab.seed": str(plan.seed),
        "logitlab.role": plan.role,
    }
    found |= {f"logitlab.axis.{_name(axis)}": str(value) for axis, value in trial.axes.items()}
    if trial.failed:
        error = record["error"]
        found["logitlab.error"] = " ".join(f"{error.get('kind')}: {error.get('message')}".split())
    provenance = record.get("provenance", {})
    for part in ("versions", "git"):
        if isinstance(provenance.get(part), Mapping):
            found |= {f"logitlab.{part}.{_name(key)}": str(value) for key, value in _flat(provenance[part]).items()}
    plain = ("device", "platform", "host", "executor")
    found |= {f"logitlab.{key}": str(provenance[key]) for key in plain if key in provenance}
    return {key: printable(value)[:_LETTERS] for key, value in found.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            found[f"{prefix}{key}"] = json.dumps(value)
        else:
            found[f"{prefix}{key}"] = printable(value) if isinstance(value, str) else value
    return found


def _name(key: str) -> str:
    """Write a key so that MLflow takes it.

    >>> _name("ood.npz:my set*.npz.max_logit_ap")
    'ood.npz:my set_.npz.max_logit_ap'
    """
    return re.sub(r"[^\w.\-/: ]", "_", key, flags=re.ASCII)[:250].strip("/") or "_"


def _milliseconds(text: Any) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (TypeError, ValueError):
        return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Let MLflow neither tell of the tables that it makes, nor tell its makers of its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    before = [logger.level for logger in loggers]
    import warnings

    with warnings.catch_warnings():
        # Of its own use of other libraries.
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, before):
                logger.setLevel(level)
