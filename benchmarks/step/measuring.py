"""One table: a shape, its forms, and all that is measured of them."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from typing import Any

from logitlab.temperature import LeastSquares

from . import memory
from .agreement import PEER_TOLERANCE, REGRET, TOLERANCE, Agreement
from .form import Form, NotThere, Runnable, Search, Step
from .groups import GROUP_FORMS
from .ours import OURS
from .peers import PEERS
from .problem import Problem, Shape
from .timing import interleave

#: Forms of a table; the first is the one that others are compared with.
SECTIONS: dict[str, tuple[Form, ...]] = {"cosine": (*PEERS, *OURS), "groups": GROUP_FORMS}

_PEERS = {form.name for form in PEERS}


@dataclass
class Measured:
    """What one process found at one shape; plain numbers and words, so that it travels as JSON.

    Attributes:
        section: of ``SECTIONS``.
        shape: B, C, D.
        family: of the features.
        times: seconds of each form in each round; None where it sat out.
        differences: largest relative difference of loss and gradients to the formula, by form.
        regrets: largest excess of the energy of κ*, by form.
        remarks: what our heads say of what they did, by form.
        absent: why a form was not measured.
        memory: peaks in MB, by form.
    """

    section: str
    shape: Shape
    family: str
    times: dict[str, list[float | None]] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    regrets: dict[str, float] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    memory: dict[str, memory.Peak] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def disagreements(self) -> list[str]:
        """Forms that computed something else, and by how much."""
        found = [
            f"{name} differs from the formula by {value:.1e}"
            for name, value in self.differences.items()
            if not value <= (PEER_TOLERANCE if name in _PEERS else TOLERANCE)
        ]
        return found + [
            f"κ* of {name} exceeds the least energy by {value:.1e}"
            for name, value in self.regrets.items()
            if not value <= REGRET
        ]


def chosen(section: str, only: list[str]) -> list[Form]:
    """The forms whose names contain one of the words, and the first one; all of them without words."""
    first, *others = SECTIONS[section]
    return [first, *(form for form in others if not only or any(word.lower() in form.name.lower() for word in only))]


def measure(section: str, shape: Shape, family: str, only: list[str], rounds: int, seconds: float) -> Measured:
    """Agreement first, then times; memory is for :func:`weigh`."""
    found = Measured(section, shape, family)
    problem = Problem(shape, family)
    agreement = Agreement(problem)
    runnables: dict[str, Runnable] = {}
    for form in chosen(section, only):
        try:
            runnable = runnables[form.name] = form.build(problem)
        except NotThere as reason:
            found.absent[form.name] = str(reason)
            continue
        difference, regret = agreement.difference(form, runnable), agreement.regret(form, runnable)
        if difference is not None:
            found.differences[form.name] = difference
        if regret is not None:
            found.regrets[form.name] = regret
        remark = what_it_did(runnable, problem)
        if remark:
            found.remarks[form.name] = remark
    del agreement  # its float64 copies of the weight
    found.times = interleave(runnables, rounds, seconds)
    return found


def weigh(found: Measured, forms: list[str]) -> None:
    """Measure the memory of these forms, each in a process of its own."""
    problem = Problem(found.shape, found.family)
    for form in forms:
        print(f"memory of {form} at {problem.shape} …", file=sys.stderr)
        found.memory[form] = memory.peaks(found.section, form, problem)


def what_it_did(runnable: Runnable, problem: Problem) -> str:
    """The path that a head takes, and how many rows a search certified."""
    if isinstance(runnable, Search) and runnable.choose is not None:
        chosen = runnable.choose()
        share = float(chosen.certified.float().mean())
        return f"{chosen.method}, {share:.1%} of {chosen.kappa.numel()} rows without a second reconstruction"
    if not isinstance(runnable, Step) or runnable.head is None:
        return ""
    head, parts = runnable.head, []
    parts.append(": ".join(head.path(problem.features, problem.target)))
    if isinstance(head.temperature, LeastSquares):
        runnable()
        runnable.clear()
        report = head.temperature.search_report
        if report is not None:
            parts.append(
                f"search: {report.method}, {report.share_certified:.1%} of rows without a second reconstruction"
            )
    return "; ".join(parts)
