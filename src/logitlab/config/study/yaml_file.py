"""A YAML file as plain values that know the lines they stand in. YAML 1.2: ``1e-3`` is a number and ``no`` is text."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError

#: Where a value stands in a document: keys of mappings and places in lists.
Place = tuple[str | int, ...]

# Values of a file; aliases of aliases reach millions with a few lines.
_MOST_VALUES = 50_000


@dataclass
class Document:
    """Plain values with their lines.

    Attributes:
        values: mappings, lists, text, numbers, booleans and None.
        lines: place of a value → file and line, ``"study.yaml:12"``; of a study that extends another, either's.
        name: of the file; empty for values that stand in none.
    """

    values: dict[str, Any]
    lines: dict[Place, str] = field(default_factory=dict)
    name: str = ""

    def where(self, place: Place) -> str:
        """Return ``"study.yaml:12: "`` for the nearest value around ``place``; empty where there is no file."""
        if not self.name:
            return ""
        for end in range(len(place), 0, -1):
            if place[:end] in self.lines:
                return f"{self.lines[place[:end]]}: "
        return f"{self.name}: "

    def merged(self, place: Place) -> Document:
        """Return the document with the mapping at ``place`` merged over it: mappings merge, all else is replaced."""
        lines = dict(self.lines)
        over: Any = self.values
        for part in place:
            over = over[part]
        values = _merge(self.values, over, (), place, lines, self.lines)
        return Document(values, lines, self.name)

    def over(self, base: Document) -> Document:
        """Return this document merged over another: mappings merge, all else is replaced."""
        lines = dict(base.lines)
        return Document(_merge(base.values, self.values, (), (), lines, self.lines), lines, self.name)


def read_yaml(path: Path) -> Document:
    """Read a file.

    Raises:
        ConfigurationError: it cannot be read, is no YAML, gives a key twice, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise ConfigurationError(f"Cannot read '{path}': {fault.strerror or fault}.") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"Cannot read '{path}': it is no text in UTF-8.") from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, name: str) -> Document:
    """Read the text of a file called ``name``; raises as :func:`read_yaml`."""
    return copy.deepcopy(_parsed(text, name))


# Many studies extend one, and a catalogue reads them all: parsing takes a hundred times as long as copying.
@lru_cache(maxsize=64)
def _parsed(text: str, name: str) -> Document:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    reader = YAML(typ="rt")
    try:
        loaded = reader.load(text)
    except DuplicateKeyError as fault:
        mark = fault.problem_mark
        line = "" if mark is None else f":{mark.line + 1}"
        problem = str(fault.problem or "").split(" with ")[0].removeprefix("found duplicate key").strip()
        raise ConfigurationError(f"{name}{line}: The key {problem or ''} is given twice. Give it once.") from None
    except MarkedYAMLError as fault:
        mark = fault.problem_mark
        line = "" if mark is None else f":{mark.line + 1}"
        problem = " ".join(str(fault.problem or fault.context or "").split())
        raise ConfigurationError(f"{name}{line}: This is no YAML: {problem}.") from None
    except YAMLError as fault:
        raise ConfigurationError(f"{name}: This is no YAML: {' '.join(str(fault).split())}.") from None
    if not isinstance(loaded, dict):
        found = "nothing" if loaded is None else f"a {_kind(loaded)}"
        raise ConfigurationError(f"{name}: Expected keys and values, such as 'heads: [softmax, cosine]'. Got {found}.")
    lines: dict[Place, str] = {}
    faults: list[str] = []
    values = _plain(loaded, (), lines, faults, name)
    if faults:
        raise ConfigurationError(faults)
    return Document(values, lines, name)


def _plain(value: Any, place: Place, lines: dict[Place, str], faults: list[str], name: str) -> Any:
    """Turn what the reader gives into plain Python, and note lines."""
    if len(lines) > _MOST_VALUES:
        raise ConfigurationError(f"{name}: Expected at most {_MOST_VALUES:,} values. Got more, aliases included.")
    if isinstance(value, dict):
        found = {}
        for key, item in value.items():
            line = value.lc.key(key)[0] + 1 if hasattr(value, "lc") and key in (value.lc.data or {}) else 0
            if not isinstance(key, str):
                faults.append(f"{name}:{line}: Expected text as a key. Got {key!r}; write it in quotes.")
                continue
            if line:
                lines[(*place, key)] = f"{name}:{line}"
            found[str(key)] = _plain(item, (*place, str(key)), lines, faults, name)
        return found
    if isinstance(value, list):
        for index in range(len(value)):
            if hasattr(value, "lc") and index in (value.lc.data or {}):
                lines[(*place, index)] = f"{name}:{value.lc.item(index)[0] + 1}"
        return [_plain(item, (*place, index), lines, faults, name) for index, item in enumerate(value)]
    if isinstance(value, bool) or value is None:
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    faults.append(
        f"{lines.get(place, name)}: '{'.'.join(map(str, place))}' must be text, a number, true, false, a list or a "
        f"mapping. Got {value!r}; write text in quotes."
    )
    return None


def _merge(
    base: Any, over: Any, place: Place, source: Place, lines: dict[Place, str], all_lines: Mapping[Place, str]
) -> Any:
    """Lay ``over``, which stands at ``source``, over what stands at ``place``."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        merged = dict(base)
        for key, value in over.items():
            here, there = (*place, key), (*source, key)
            if key in base and isinstance(base[key], Mapping) and isinstance(value, Mapping):
                merged[key] = _merge(base[key], value, here, there, lines, all_lines)
                continue
            merged[key] = value
            for known in [known for known in lines if known[: len(here)] == here]:
                del lines[known]
            for known, line in all_lines.items():
                if known[: len(there)] == there:
                    lines[here + known[len(there) :]] = line
        return merged
    return over


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "single value"
