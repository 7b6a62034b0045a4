"""Which records, artefacts and code a page was made from, so that an unchanged one need not be drawn again."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from logitlab.records import Store
from logitlab.records.analysis import ANALYSIS_FILE

from .rows import Record

# The last line of a page: what it was made from, and what stands above.
_SEAL = re.compile(rb"<!-- made from ([0-9a-f]{64}), holds ([0-9a-f]{64}) -->\n")
_PACKAGES = ("logitlab", "matplotlib", "numpy", "jinja2", "pillow", "scipy")


def source_digest(records: list[Record], root: Path, title: str | None) -> str:
    """Return a digest of everything that a page is made from: 64 hexadecimal digits.

    It covers the records, the bytes of the files beside them that a page reads, the code that draws, and the versions
    of the packages that it draws with.

    Args:
        records: of the page.
        root: the folder of the comparison.
        title: of the page.
    """
    found = hashlib.sha256()
    store = Store(root)

    def add(*values: Any) -> None:
        found.update(json.dumps(values, sort_keys=True, default=str).encode())

    add(title, str(root), [(name, _version(name)) for name in _PACKAGES], records)
    package = Path(__file__).parent
    for path in sorted([*package.rglob("*"), *(package.parent / "statistics").glob("*")]):
        if path.suffix in (".py", ".html", ".css", ".js"):
            add(path.name, _digest(path))
    add(ANALYSIS_FILE, _digest(root / "analysis" / ANALYSIS_FILE))
    for record in records:
        folder = store.trial_folder(str(record["identity"]))
        for path in (folder / "outputs.npz", folder / "model.json", *sorted(folder.glob("ood/*"))):
            add(path.name, _digest(path))
    return found.hexdigest()


def seal(text: str, source: str) -> bytes:
    """Return a page with its last line, which tells what it was made from.

    Args:
        text: the page.
        source: from :func:`source_digest`.
    """
    body = text.rstrip("\n").encode("utf-8") + b"\n"
    return body + f"<!-- made from {source}, holds {hashlib.sha256(body).hexdigest()} -->\n".encode()


def is_current(path: Path, source: str) -> bool:
    """Say whether a file is a whole, unchanged page that was made from ``source``."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    body, mark, last = content.rpartition(b"\n<!--")
    body, last = body + b"\n", mark[1:] + last
    made = _SEAL.fullmatch(last)
    return made is not None and made[1].decode() == source and made[2].decode() == hashlib.sha256(body).hexdigest()


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
