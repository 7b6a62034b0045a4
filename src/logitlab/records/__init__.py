"""What a trial leaves behind: the schema of a record and the folder that holds records. No torch."""

from __future__ import annotations

from .files import write_json_atomic
from .schema import FORMAT_VERSION, Failure, Record, read_failure, read_record, result_digest
from .store import Store

__all__ = [
    "FORMAT_VERSION",
    "Failure",
    "Record",
    "Store",
    "read_failure",
    "read_record",
    "result_digest",
    "write_json_atomic",
]
