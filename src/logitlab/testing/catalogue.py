"""The list of checks: what each is called, what it means and which trait switches it off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .case import Case
from .traits import HeadTraits

#: Raises ``CheckFailed``, or anything else, if the head does not hold to it.
Run = Callable[[Case], None]
#: Says why a check does not apply to heads of these traits; None where it does.
Off = Callable[[HeadTraits], str | None]


class NotApplicable(Exception):  # noqa: N818 - no error: the head lacks an optional method
    """A check finds nothing to check in this head; the message says why."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: by which it is skipped and reported.
        meaning: in words; its docstring.
        run: raises ``CheckFailed``, or anything else, if it does not hold.
        off: why it does not apply.
        optional: runs only if asked for.
    """

    name: str
    meaning: str
    run: Run
    off: Off
    optional: bool = False


#: Every check by name, in the order in which they run.
CHECKS: dict[str, Check] = {}


def check(off: Off = lambda traits: None, *, optional: bool = False) -> Callable[[Run], Run]:
    """Add a function to the list of checks under its own name.

    Args:
        off: says why it does not apply to heads of these traits; None where it does.
        optional: run it only if asked for.
    """

    def add(function: Run) -> Run:
        name: str = getattr(function, "__name__", "")
        CHECKS[name] = Check(name, " ".join((function.__doc__ or "").split()), function, off, optional)
        return function

    return add
