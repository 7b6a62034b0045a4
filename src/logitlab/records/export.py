"""Records as one flat table, a row a trial, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from ..config.errors import ConfigurationError, RecordError
from ..config.names import printable
from ..config.specification import Specification
from .ood import OOD_FOLDER, OodRecord
from .store import Store

Row = dict[str, Any]

# What stands in the first columns; the others follow as they are found.
_FIRST = ("study", "row", "role", "identity", "status", "error", "head", "backbone", "data.name", "seed")
# A list an epoch, and a traceback, are no cells of a table.
_LEFT_OUT = ("history",)


def gather_records(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return finished and failed trials of a study, with what they measured on out-of-distribution sets.

    Args:
        folder: the study's (``--out``), or the folder ``trials`` in it.

    Returns:
        the records, head by head and seed by seed; and a sentence for each record that is damaged.

    Raises:
        RecordError: the folder holds no records.
    """
    root = folder.parent if folder.name == "trials" and not (folder / "trials").is_dir() else folder
    store = Store(root)
    try:
        identities = store.identities()
    except OSError as fault:
        raise RecordError(f"Cannot read '{folder}': {fault.strerror or fault}. Check who may read it.") from None
    damage = [sentence for identity in identities if (sentence := store.damage(identity)) is not None]
    records = []
    for record in store.records(identities):
        found = ood_measures_of(store.trial_folder(record["identity"]))
        records.append({**record, "ood": found} if found else record)
    if not records:
        what = " ".join(damage) or "It holds no trials." if folder.exists() else "There is no such folder."
        raise RecordError(f"Expected the folder of a study, such as logitlab-runs, in '{folder}'. {what}")
    return sorted(records, key=_order), damage


def ood_measures_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return name → measures of the out-of-distribution sets that a trial was measured on; damaged ones not.

    Args:
        folder: of the trial.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / OOD_FOLDER).glob("*.json")):
        try:
            record = OodRecord.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        # Two versions of one set stand beside each other.
        name = record.name if record.name not in found else f"{record.name} {record.fingerprint[:8]}"
        found[name] = dict(record.measures)
    return found


def rows_of(records: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Flatten records: nested keys are joined by points, lists become JSON.

    Measures stand under ``test.`` and ``validation.``, settings under ``data.``, ``training.``, ``head.`` and
    ``backbone.``, out-of-distribution measures under ``ood.NAME.``, versions under ``versions.``. The history of the
    epochs stays in the records.

    >>> record = {"identity": "a", "config": {"head": {"name": "cosine", "parameters": {"kappa": 20}}, "seed": 1},
    ...           "result": {"test": {"accuracy": 0.5}}, "provenance": {"seconds": 2.0}}
    >>> row = rows_of([record])[0]
    >>> row["head"], row["status"], row["test.accuracy"], row["seconds"]
    ('cosine:kappa=20', 'finished', 0.5, 2.0)
    """
    return [_row(record) for record in records]


def columns_of(rows: Sequence[Row]) -> list[str]:
    """Return every column of the rows: the leading ones, then the others as they are first met."""
    met = dict.fromkeys(key for row in rows for key in row)
    return [*(key for key in _FIRST if key in met), *(key for key in met if key not in _FIRST)]


def write_csv(rows: Sequence[Row], target: IO[str]) -> None:
    """Write rows with a line of headings; what a row lacks stays empty.

    Args:
        rows: see :func:`rows_of`.
        target: a text stream that leaves line ends alone.
    """
    writer = csv.DictWriter(target, columns_of(rows), restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None else value for key, value in row.items()})


def write_parquet(rows: Sequence[Row], target: IO[bytes]) -> None:
    """Write rows as Parquet; a column of numbers alone stays one, any other becomes text.

    Args:
        rows: see :func:`rows_of`.
        target: a binary stream.

    Raises:
        ConfigurationError: pyarrow is not installed.
    """
    check_parquet()
    import pyarrow
    from pyarrow import parquet

    columns = {key: _alike([row.get(key) for row in rows]) for key in columns_of(rows)}
    parquet.write_table(pyarrow.table(columns), target)


def check_parquet() -> None:
    """See that Parquet can be written.

    Raises:
        ConfigurationError: saying what to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            "Parquet needs pyarrow. Install it with: pip install 'logitlab[parquet]', or take --to csv."
        ) from None


def _row(record: Mapping[str, Any]) -> Row:
    config = record["config"]
    row: Row = {"identity": record["identity"], "status": "failed" if "error" in record else "finished"}
    row["error"] = None
    for part in ("head", "backbone"):
        row[part] = (
            str(Specification(config[part]["name"], dict(config[part].get("parameters") or {})))
            if (part in config)
            else None
        )
    row |= _flat(config)
    if "error" in record:
        error = record["error"]
        row["error"] = " ".join(str(error.get("message") or error.get("kind") or "no reason given").split())
        row["error.kind"], row["attempt"] = error.get("kind"), error.get("attempt")
    result = {key: value for key, value in record.get("result", {}).items() if key not in _LEFT_OUT}
    row |= _flat(result) | _flat({"ood": record.get("ood") or {}}) | _flat(record.get("provenance", {}))
    return {key: printable(value) if isinstance(value, str) else value for key, value in row.items()}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Row:
    found: Row = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            found[f"{prefix}{key}"] = json.dumps(value)
        else:
            found[f"{prefix}{key}"] = value
    return found


def _alike(values: list[Any]) -> list[Any]:
    """Give the values of a column one type: bool, int or float where all are, text otherwise."""
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return values
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in present):
        whole = all(isinstance(value, int) for value in present)
        return [value if value is None or whole else float(value) for value in values]
    return [None if value is None else str(value) for value in values]


def _order(record: Mapping[str, Any]) -> tuple[str, str, int, str]:
    config = record["config"]
    head = config.get("head") or {}
    return (
        str(config.get("data_fingerprint")),
        str(Specification(str(head.get("name")), dict(head.get("parameters") or {}))),
        int(config.get("seed") or 0),
        str(record["identity"]),
    )
