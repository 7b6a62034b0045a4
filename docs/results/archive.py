"""The records of studies in one small file, and back: ``records.tar.xz`` holds all that their reports are made from.

    python docs/results/archive.py pack FOLDER [NAME ...]      into records.tar.xz, beside what it holds already
    python docs/results/archive.py unpack FOLDER               a folder that 'logitlab study report' reads

FOLDER is what ``logitlab study run`` wrote (``--out``); NAME a study in it, all of them by default. Kept are the records
of the trials, what stages and OOD sets measured, and the studies with their plans and analyses; weights, outputs and
pages are not. A trial that several studies share is kept once.
"""

from __future__ import annotations

import io
import lzma
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from logitlab.records import Store
from logitlab.records.study import list_studies, read_plan, study_folder

ARCHIVE = Path(__file__).parent / "records.tar.xz"

_STUDY_FILES = ("study.json", "plan.json", "analysis/analysis.json", "analysis/source.json")


def members(root: Path, names: Iterable[str]) -> list[Path]:
    """Return the files that the reports of studies are made from, sorted, relative to ``root``.

    Args:
        root: the folder of the trials.
        names: of studies.
    """
    store, found = Store(root), set()
    for name in names:
        folder = study_folder(root, name)
        found |= {folder / file for file in _STUDY_FILES}
        for planned in read_plan(folder).trials:
            place = store.trial_folder(planned.identity)
            found |= {place / "record.json", *place.glob("stages/*.json"), *place.glob("ood/*.json")}
    return sorted(path.relative_to(root) for path in found if path.is_file())


def pack(root: Path, names: Iterable[str], archive: Path = ARCHIVE) -> int:
    """Put studies into the archive, over what it holds of them; the same files give the same bytes.

    Args:
        root: the folder of the trials.
        names: of studies.
        archive: the file.

    Returns:
        how many files it holds now.
    """
    held = {} if not archive.is_file() else dict(contents(archive))
    for path in members(root, names):
        held[path.as_posix()] = (root / path).read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in sorted(held.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    archive.write_bytes(lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    return len(held)


def contents(archive: Path = ARCHIVE) -> list[tuple[str, bytes]]:
    """Return name and bytes of every file of the archive."""
    with tarfile.open(archive, mode="r:xz") as tar:
        return [(entry.name, reader.read()) for entry in tar if (reader := tar.extractfile(entry)) is not None]


def unpack(target: Path, archive: Path = ARCHIVE) -> None:
    """Write all files of the archive below a folder."""
    with tarfile.open(archive, mode="r:xz") as tar:
        tar.extractall(target, filter="data")


def main(arguments: list[str]) -> None:
    """Pack or unpack."""
    if len(arguments) < 2 or arguments[0] not in ("pack", "unpack"):
        sys.exit(__doc__)
    root = Path(arguments[1])
    if arguments[0] == "unpack":
        unpack(root)
        return
    count = pack(root, arguments[2:] or list_studies(root))
    sys.stdout.write(f"{ARCHIVE.name}: {count} files, {ARCHIVE.stat().st_size:,} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
