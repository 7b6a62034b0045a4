"""Files of records read back with suspicion: they may be gone, cut off, changed by hand, or too new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ..config.errors import RecordError
from ..config.names import printable
from ..config.validation import Configuration

Form = TypeVar("Form", bound=Configuration)


def read_form(path: Path, form: type[Form], *, version: int, key: str = "format_version", advice: str = "") -> Form:
    """Read a JSON file as a configuration class.

    Args:
        path: of the file.
        form: what it must hold.
        version: the newest that is understood.
        key: of the file's version.
        advice: a sentence that follows "There is no …".

    Raises:
        RecordError: the file is missing, cannot be read, is damaged, or of a newer version.
    """
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"There is no '{path}'.{f' {advice}' if advice else ''}") from None
    except OSError as fault:
        raise RecordError(f"Cannot read '{path}': {fault.strerror or fault}.") from fault
    except ValueError as fault:
        # A ValueError is half a file (JSON that stops) or not text at all.
        raise RecordError(f"Cannot read '{path}': it is not whole JSON ({fault}).") from fault
    found = values.get(key) if isinstance(values, dict) else None
    if isinstance(found, int) and found > version:
        raise RecordError(
            f"'{path}' has {key.replace('_', ' ')} {found}; this LogitLab reads up to {version}. Update it."
        )
    try:
        return form.model_validate(values)
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise RecordError(f"'{printable(str(path))}' is damaged: {where + ': ' if where else ''}{reason}.") from None
