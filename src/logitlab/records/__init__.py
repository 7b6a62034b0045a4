"""What a trial leaves behind: the schema of a record and the folder that holds records. No torch."""

from __future__ import annotations

from .files import write_json_atomic
from .ood import (
    OOD_MEASURES,
    OodRecord,
    OodSource,
    distinct_sources,
    has_ood,
    read_ood,
    read_ood_scores,
    write_ood,
)
from .outputs import MOST_LOGITS, OUTPUTS_FILE, read_arrays, read_outputs, write_arrays, write_outputs
from .schema import FORMAT_VERSION, Failure, Record, read_failure, read_record, result_digest
from .store import SNAPSHOT_FILE, Store

__all__ = [
    "FORMAT_VERSION",
    "MOST_LOGITS",
    "OOD_MEASURES",
    "OUTPUTS_FILE",
    "SNAPSHOT_FILE",
    "Failure",
    "OodRecord",
    "OodSource",
    "Record",
    "Store",
    "distinct_sources",
    "has_ood",
    "read_arrays",
    "read_failure",
    "read_ood",
    "read_ood_scores",
    "read_outputs",
    "read_record",
    "result_digest",
    "write_arrays",
    "write_json_atomic",
    "write_ood",
    "write_outputs",
]
