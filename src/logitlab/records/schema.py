"""The form of a record and of a failure, and how they are read back with suspicion."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import Field, model_validator

from ..config.errors import RecordError
from ..config.trial import canonical_json
from ..config.validation import Configuration
from .reading import read_form

FORMAT_VERSION: Final = 1


def result_digest(result: dict[str, Any]) -> str:
    """Return the SHA-256 of a result's canonical JSON: equal results, equal digests, on every machine.

    >>> result_digest({"b": 1, "a": 0.5}) == result_digest({"a": 0.5, "b": 1})
    True
    """
    return hashlib.sha256(canonical_json(result).encode()).hexdigest()


class Record(Configuration):
    """What a finished trial leaves behind, in ``record.json``.

    Attributes:
        format_version: version of this form.
        identity: 16 hexadecimal digits; see ``TrialConfig.identity``.
        config: the trial's ``TrialConfig`` as JSON.
        result: what is compared between runs and machines: measures, history, selected epoch.
        result_sha256: :func:`result_digest` of ``result``.
        provenance: what may differ when the same trial runs again: time, versions, device, attempt, warnings.
    """

    format_version: Literal[1] = FORMAT_VERSION
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    config: dict[str, Any]
    result: dict[str, Any]
    result_sha256: str
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _check(self) -> Record:
        if self.result_sha256 != result_digest(self.result):
            raise ValueError("its result does not match its checksum")
        return self


class Failure(Configuration):
    """What a failed trial leaves behind, in ``error.json``. It never counts as done.

    Attributes:
        format_version: version of this form.
        identity: 16 hexadecimal digits.
        config: the trial's ``TrialConfig`` as JSON.
        error: ``kind`` (the exception's class), ``message`` (one line), ``attempt`` (from 1), and what else
            the writer knows, for instance ``traceback``.
    """

    format_version: Literal[1] = FORMAT_VERSION
    identity: str = Field(pattern=r"^[0-9a-f]{16}$")
    config: dict[str, Any]
    error: dict[str, Any]


Form = TypeVar("Form", Record, Failure)


def read_record(path: Path) -> dict[str, Any]:
    """Read and check a ``record.json``.

    Returns:
        the record as a plain mapping with the keys of :class:`Record`.

    Raises:
        RecordError: the file is missing, cut off, changed by hand, or of another format version.
    """
    return _read(path, Record)


def read_failure(path: Path) -> dict[str, Any]:
    """Read and check an ``error.json``: the keys of :class:`Failure`; raises as :func:`read_record`."""
    return _read(path, Failure)


def _read(path: Path, form: type[Form]) -> dict[str, Any]:
    checked = read_form(path, form, version=FORMAT_VERSION)
    if checked.identity != path.parent.name:
        raise RecordError(f"'{path}' belongs to trial {checked.identity}, not to {path.parent.name}.")
    return checked.model_dump()
