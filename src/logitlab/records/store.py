"""A folder of trials: ``root/trials/<identity>/record.json`` means done."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from ..config.errors import RecordError
from .files import remove_leftovers, write_json_atomic
from .ood import OOD_FOLDER
from .outputs import OUTPUTS_FILE
from .schema import Failure, Record, read_failure, read_record, result_digest

#: The model card of a trial whose model is used.
CARD_FILE: Final = "README.md"

#: Where a running trial keeps what it needs to go on; ``training`` writes and reads it.
SNAPSHOT_FILE: Final = "snapshot.pt"

_SECONDS_OF_A_WRITER = 60.0


class Store:
    """The records below one folder. Every trial writes only its own sub-folder, so writers never meet.

    Attributes:
        root: the folder; it is made when something is written, or by ``prove_writable``.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def prove_writable(self) -> None:
        """Make the folder of the trials and write a file in it, so that training does not end in a refusal.

        Permissions alone do not tell: a file system may be read-only, full, or like ``/proc``.

        Raises:
            OSError: the file system refuses.
        """
        folder = self.root / "trials"
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{secrets.token_hex(8)}.tmp"
        try:
            write_json_atomic(probe, None)
        finally:
            probe.unlink(missing_ok=True)

    def trial_folder(self, identity: str) -> Path:
        """Return where the trial ``identity`` keeps its record, checkpoint and error."""
        return self.root / "trials" / identity

    def is_done(self, identity: str) -> bool:
        """Say whether a whole, unchanged record of the trial is there."""
        return self.damage(identity) is None and self._record_path(identity).exists()

    def damage(self, identity: str) -> str | None:
        """Say in words why the trial's record cannot be trusted; None when it can, or when there is none."""
        if not self._record_path(identity).exists():
            return None
        try:
            self.record(identity)
        except RecordError as fault:
            return str(fault)
        return None

    def record(self, identity: str) -> dict[str, Any]:
        """Return the record of a finished trial: the keys of :class:`~logitlab.records.Record`.

        Raises:
            RecordError: there is none, or it is damaged.
        """
        return read_record(self._record_path(identity))

    def failure(self, identity: str) -> dict[str, Any] | None:
        """Return what the last failed attempt left (keys of :class:`~logitlab.records.Failure`), or None."""
        try:
            return read_failure(self._error_path(identity))
        except RecordError:
            # An unreadable note of a failure says no more than none: the trial is not done either way.
            return None

    def records(self, identities: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Return the records of finished trials and the failures of the others.

        Args:
            identities: which trials, in this order; None for all, ordered by identity. Trials that left
                neither, and damaged records, are left out.
        """
        found = []
        for identity in self.identities() if identities is None else identities:
            value = self.record(identity) if self.is_done(identity) else self.failure(identity)
            if value is not None:
                found.append(value)
        return found

    def identities(self) -> list[str]:
        """Return the identities of all trials that have a folder, sorted."""
        folder = self.root / "trials"
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []

    def next_attempt(self, identity: str) -> int:
        """Return the number of the attempt that is about to start, from 1."""
        failure = self.failure(identity)
        return 1 if failure is None else int(failure["error"].get("attempt", 0)) + 1

    def sweep(self, identity: str) -> None:
        """Remove what a killed writer left half-written, and the snapshot of a trial that is done.

        Only for the process that holds the trial's claim, or for a trial that is done: there somebody may be writing
        what stands beside the record, and what is younger than a minute is left alone.

        Raises:
            OSError: the file system refuses.
        """
        folder = self.trial_folder(identity)
        done = self.is_done(identity)
        remove_leftovers(folder, older_than=_SECONDS_OF_A_WRITER if done else 0)
        if done:
            (folder / SNAPSHOT_FILE).unlink(missing_ok=True)

    def forget_measures(self, identity: str) -> None:
        """Remove what stands beside the record of an earlier model of this trial, before it is trained again.

        Only for the process that holds the trial's claim, when the record is gone or damaged.
        """
        folder = self.trial_folder(identity)
        shutil.rmtree(folder / OOD_FOLDER, ignore_errors=True)
        for name in (OUTPUTS_FILE, CARD_FILE):
            (folder / name).unlink(missing_ok=True)

    def write_record(
        self, identity: str, config: dict[str, Any], result: dict[str, Any], provenance: dict[str, Any]
    ) -> None:
        """Write the record that makes a trial done, and remove the note of an earlier failure.

        Args:
            identity: the trial's identity.
            config: ``TrialConfig.model_dump(mode="json")``.
            result: measures and history; finite numbers, None where a measure is undefined.
            provenance: time, versions, device, attempt, warnings.

        Raises:
            RecordError: a value is no JSON, for instance NaN.
        """
        try:
            digest = result_digest(result)
        except (TypeError, ValueError) as fault:
            raise RecordError(f"The result of trial {identity} is not JSON: {fault}.") from fault
        value = Record(identity=identity, config=config, result=result, result_sha256=digest, provenance=provenance)
        write_json_atomic(self._record_path(identity), value.model_dump())
        self._error_path(identity).unlink(missing_ok=True)

    def write_error(self, identity: str, config: dict[str, Any], error: dict[str, Any]) -> None:
        """Note that an attempt failed.

        Args:
            identity: the trial's identity.
            config: ``TrialConfig.model_dump(mode="json")``.
            error: ``kind``, ``message`` and what else is known; ``attempt`` is added when it is missing.
        """
        value = Failure(identity=identity, config=config, error={"attempt": self.next_attempt(identity), **error})
        write_json_atomic(self._error_path(identity), value.model_dump())

    def _record_path(self, identity: str) -> Path:
        return self.trial_folder(identity) / "record.json"

    def _error_path(self, identity: str) -> Path:
        return self.trial_folder(identity) / "error.json"
