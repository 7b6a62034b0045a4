"""What an analysis returns that is more than one number: a frozen record with its convention, printed in a line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Base of the results with arrays inside; :class:`~logitlab.analysis.Measurement` is the one for a single number.

    Subclasses are frozen dataclasses (``kw_only=True, eq=False``) that set ``name``, add their fields, offer ``value``
    (what the analysis is asked for) and answer ``headline``. Arrays are tensors on the CPU: float64, int64 or bool.

    Attributes:
        name: what was measured.
        convention: how, where the literature differs, in words.
        n: samples that it rests on.
        split: the part of the data that it was measured on, if the caller said so.
        warnings: why it may mislead, a sentence each.
    """

    name: ClassVar[str]

    convention: str
    n: int
    split: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The result in a few words; what a line of text has room for."""
        raise NotImplementedError

    def __str__(self) -> str:
        where = f"{self.split}, " if self.split else ""
        line = f"{self.name} {self.headline} ({self.convention}; {where}n = {self.n})"
        return "\n".join([line, *(f"  warning: {warning}" for warning in self.warnings)])

    def to_json(self) -> dict[str, Any]:
        """Return plain values for ``json.dumps``: lists for arrays, None for what JSON cannot hold (NaN, infinity)."""
        return {
            "name": self.name,
            **{
                field.name: plain(getattr(self, field.name))
                for field in fields(self)
                if field.metadata.get("json", True)
            },
        }


def plain(value: Any) -> Any:
    """Turn a value of a result into what JSON can hold.

    >>> import torch
    >>> plain({"a": torch.tensor([1.0, float("nan")]), "b": (True, 2)})
    {'a': [1.0, None], 'b': [True, 2]}
    """
    if isinstance(value, Result):
        return value.to_json()
    if isinstance(value, Tensor):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, frozenset, set)):
        return [plain(entry) for entry in value]
    return value.to_json() if hasattr(value, "to_json") else value
